"""Evaluations: questions about the notes that come with the app, and translations that are to be found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_core.evaluation import Report, Sample, evaluate

from multiway_search.app import APP
from multiway_search.beir import MODES
from multiway_search.collection import NOTES, QUESTIONS

if TYPE_CHECKING:
    from multiway_text.search.pipeline import SearchPipeline
    from multiway_text.search.store import Index


@dataclass(frozen=True)
class Places:
    """How far down the right document stands, from 1, by mode; 0: not among the first ten."""

    by_mode: dict[str, int]

    def accuracy(self, mode: str) -> float:
        """1 where it is the first."""
        return float(self.by_mode[mode] == 1)

    def reciprocal(self, mode: str) -> float:
        """Of its place."""
        return 1 / self.by_mode[mode] if self.by_mode[mode] else 0.0


def places(pipeline: SearchPipeline, index: Index, question: str, name: str) -> Places:
    """Where the document of this name stands for a question, by each mode."""
    found = {}
    for mode in MODES:
        hits = pipeline.query(index, question, mode=mode, top=50, highlight=False).hits
        names = list(dict.fromkeys(Path(hit.passage.path).stem for hit in hits))[:10]
        found[mode] = names.index(name) + 1 if name in names else 0
    return Places(found)


def notes_evaluation(pipeline: SearchPipeline) -> Report:
    """Accuracy@1 and reciprocal rank of finding the note that answers, by meaning, by words and by both."""
    with (
        tempfile.TemporaryDirectory(prefix="multiway-") as folder,
        pipeline.open(Path(folder, "index"), create=True) as index,
    ):
        pipeline.update(index, [NOTES / "en"])
        chance = 1 / sum(1 for _ in index.documents())
        metrics: dict[str, Any] = {}
        for mode in MODES:
            name = "" if mode == "hybrid" else f"{mode} "
            metrics[f"{name}accuracy@1"] = lambda found, _, mode=mode: found.accuracy(mode)
            metrics[f"{name}mrr@10"] = lambda found, _, mode=mode: found.reciprocal(mode)
        metrics["chance"] = lambda found, _: chance
        return evaluate(
            [Sample(question, (question, name), None) for question, name in QUESTIONS.items()],
            lambda pair: places(pipeline, index, *pair),
            metrics,
            name=f"search by {pipeline.name} in the app's notes",
        )


@dataclass(frozen=True)
class Translation:
    """Whether each text of a pair is nearest to the other among all texts of that side."""

    forward: bool
    backward: bool


def translations_evaluation(
    pipeline: SearchPipeline,
    first: Path,
    second: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    on_sample: Callable[[dict[str, Any]], None] | None = None,
) -> Report:
    """Accuracy@1 in both directions on two files where line n translates line n, as LASER's Tatoeba.

    Equal texts of a side are one. Pairs with an empty side are left out. Raises InputError: unequal length; DataError.
    """
    import numpy as np
    from multiway_text.data.parallel import ParallelFile
    from multiway_text.search.vectors import nearest_rows

    pairs = list(islice(ParallelFile(("first", "second"), (first, second)), limit))
    if not pairs:
        raise InputError(f"{first} and {second} have no line with a text in both")
    texts = [list(dict.fromkeys(side)) for side in zip(*pairs, strict=True)]
    one_NE, other_ME = (pipeline.embed(side, prompt="query") for side in texts)
    nearest = [
        dict(zip(own, np.array(others)[places_N1[:, 0]].tolist(), strict=True))
        for own, others, (places_N1, _) in (
            (*texts, nearest_rows(one_NE, other_ME, 1)),
            (*reversed(texts), nearest_rows(other_ME, one_NE, 1)),
        )
    ]
    chance = sum(1 / len(side) for side in texts) / 2
    return evaluate(
        (Sample(str(number), pair, None) for number, pair in enumerate(pairs, 1)),
        lambda pair: Translation(nearest[0][pair[0]] == pair[1], nearest[1][pair[1]] == pair[0]),
        {
            "accuracy@1": lambda found, _: float(found.forward),
            "accuracy@1 backward": lambda found, _: float(found.backward),
            "chance": lambda found, _: chance,
        },
        name=f"translations found by {pipeline.name}: {first.name} to {second.name}, and backward",
        seed=seed,
        on_sample=on_sample,
    )


def quick_evaluation() -> Report:
    """The bundled model on the app's notes; see ``notes_evaluation``."""
    return notes_evaluation(load_pipeline(APP, ModelOptions(device="cpu")))
