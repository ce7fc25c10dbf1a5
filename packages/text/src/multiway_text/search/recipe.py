"""An encoder fine-tuned for search on pairs of texts: a question and its passage, a title and its body, translations.

    training.run(RECIPES["pairs"], TrainOptions(output, data=("pairs.tsv",), init_from="bundled:minilm-l6"))

It is the encoder's recipe of pairs (InfoNCE within the batch, in both directions) with the prompts that an index and a
query will put before their texts. The result is a folder that an index takes as its model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multiway_text.documents import documents
from multiway_text.encoder import examples, recipe, tasks
from multiway_text.encoder.examples import Pair
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.search.chunks import sentences


@dataclass(frozen=True)
class Recipe(recipe.Recipe):
    """Of the encoder's recipe the task of pairs. ``text`` is the query's side, ``pair`` the passage's.

    With no base and no data it is trained on the documentation that comes with Python.
    """

    def _parts(
        self, sentence: SentenceModel, given: list[Any], scored: list[Any], length: int, name: str
    ) -> tasks.TaskParts:
        settings = sentence.settings
        query, passage = settings.prompts.get("query", ""), settings.prompts.get("passage", "")

        def prompted(one: Pair) -> Pair:
            negative = one.negative and passage + one.negative
            return replace(one, text=query + one.text, positive=passage + one.positive, negative=negative)

        plain = replace(sentence, settings=replace(settings, prompts={}, default_prompt=None))
        parts = tasks.sentence_pairs(
            plain, [*map(prompted, given)], [*map(prompted, scored)], length, self.scale
        )

        def export(module: Any, folder: Path) -> None:
            kept = replace(settings, max_length=settings.max_length or length)
            SentenceModel(module, sentence.tokenizer, kept).save(folder)

        return replace(parts, export=export)

    def _examples(
        self, data: Sequence[str], held_out: Sequence[str] | None = None
    ) -> tuple[list[Any], list[Any]]:
        return super()._examples(data, held_out) if data or self.base else examples.split(_documentation())


def _documentation() -> list[Pair]:
    """The first two sentences of each page of the documentation that comes with Python."""
    found = []
    for page in documents([]):
        spans = [page.text[a:b] for a, b in sentences(page.text) if b - a > 20]
        if len(spans) > 1:
            found.append(Pair(spans[0], spans[1], page.name))
    return found


_ENCODER = recipe.RECIPES["pairs"]
RECIPES: dict[str, Recipe] = {
    "pairs": Recipe(task="pairs", epochs=1.0, batch_size=64, train=_ENCODER.train),
    # Some seconds on one core: shows that every part works.
    "smoke": Recipe(
        task="pairs",
        base="",
        max_length=32,
        batch_size=16,
        train=replace(_ENCODER.train, steps=30, warmup_steps=3, learning_rate=1e-3),
    ),
}
