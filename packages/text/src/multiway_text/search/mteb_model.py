"""Encoders of this package in MTEB (package ``mteb``, 2.0 or later), with the prompts that search uses.

import mteb
from multiway_text.search.mteb_model import MtebEncoder
mteb.evaluate(MtebEncoder("bundled:minilm-l6"), mteb.get_tasks(["SciFact"]))
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_text.search.pipeline import SearchPipeline

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.types import PromptType
except ModuleNotFoundError as error:
    raise InputError(f"MTEB needs {error.name}: pip install 'multiway-text[mteb]'") from error


class MtebEncoder(AbsEncoder):
    """What MTEB asks for: vectors of texts.

    Args:
        model_name: ``bundled:NAME``, ``package:NAME``, a folder or a hub id, or a pipeline.
        revision: of no meaning; a digest of the model's files stands in the results.
        device: ``cpu`` where nothing is said.
    """

    def __init__(
        self,
        model_name: str | SearchPipeline,
        revision: str | None = None,
        *,
        device: str | None = None,
        **ignored: Any,
    ) -> None:
        pipeline = model_name
        if isinstance(pipeline, str):
            pipeline = SearchPipeline.from_pretrained(pipeline, device=device or "cpu")
        self.model = pipeline
        name = pipeline.name.rstrip("/").replace(":", "/").split("/")[-1]
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"multiway/{name}",
                "revision": pipeline.version[:16],
                "embed_dim": pipeline.encoder.sentence.width,
                "max_tokens": pipeline.encoder.sentence.max_length,
            }
        )

    def encode(
        self, inputs: Iterable[Any], *, prompt_type: PromptType | None = None, **ignored: Any
    ) -> NDArray[np.float32]:
        """Vectors of length 1, (texts, width), of batches ``{"text": [...]}``.

        Documents get the model's prompt of passages; queries, and texts of tasks that compare equals, that of queries.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        return self.model.embed(texts, prompt="passage" if prompt_type == PromptType.document else "query")
