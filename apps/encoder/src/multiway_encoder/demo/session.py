"""What the demo does with the model: texts and models in, pictures out."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from multiway_core import hub
from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError

from multiway_encoder.app import APP
from multiway_encoder.demo.picture import heat_maps, text_map

if TYPE_CHECKING:
    from multiway_text.encoder.pipeline import EncoderPipeline

MAX_TEXTS, MAX_CHARACTERS = 200, 100_000
MAX_TOKENS = 40  # whose relations can still be read
STUDENT = "minilm-l3-h192"


class Session:
    """One model for all visitors; the page's queue lets one work at a time."""

    def __init__(self, pipeline: EncoderPipeline, options: ModelOptions) -> None:
        self.pipeline, self.options = pipeline, options
        self.suggested = f"bundled:{STUDENT}" if STUDENT in hub.bundled() else ""
        self._second = lru_cache(maxsize=1)(self._load)

    @classmethod
    def of(cls, model: str, device: str, dtype: str) -> Session:
        """Raises ModelNotFoundError, CheckpointError."""
        options = ModelOptions(model, device, dtype)
        return cls(load_pipeline(APP, options), options)

    def nearest(self, query: str, texts: str) -> str:
        """The texts in two dimensions, and the nearest to the query. Raises InputError."""
        lines = [line.strip() for line in texts.splitlines() if line.strip()]
        if not query.strip() or len(lines) < 2:
            raise InputError("give a search and at least two texts, one a line")
        if len(lines) > MAX_TEXTS or len(texts) + len(query) > MAX_CHARACTERS:
            raise InputError(f"at most {MAX_TEXTS} texts of {MAX_CHARACTERS:,} characters together")
        started = time.monotonic()
        vectors_NE = self.pipeline.embed([query.strip(), *lines], windows=True).vectors
        return text_map(query.strip(), lines, vectors_NE, time.monotonic() - started)

    def relations(self, text: str, relation: Any, other: str) -> str:
        """The relations of a text's tokens in the last layer, of one model or two side by side. Raises InputError."""
        from multiway_text.encoder.relations import RELATIONS, divergence, relations

        if relation not in RELATIONS:
            raise InputError(f"relation {relation!r}: expected one of {', '.join(RELATIONS)}")
        tokens = len(self.pipeline.encode([text])[0])
        if not text.strip() or tokens > MAX_TOKENS:
            raise InputError(f"give a text of at most {MAX_TOKENS} tokens; this one has {tokens}")
        found = [(self.pipeline.name, relations(self.pipeline.sentence, text, relation))]
        note = ""
        if other.strip():
            second = self._second(other.strip())
            found.append((second.name, relations(second.sentence, text, relation)))
            note = f"KL(first || second) of a token, mean: {divergence(found[0][1], found[1][1]):.3f} nats"
        return heat_maps(found, note)

    def _load(self, name: str) -> EncoderPipeline:
        return load_pipeline(APP, ModelOptions(name, self.options.device, self.options.dtype))
