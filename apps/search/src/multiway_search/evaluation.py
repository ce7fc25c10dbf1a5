"""The quick evaluation: questions about the notes that come with the app."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.evaluation import Report, Sample, evaluate

from multiway_search.app import APP
from multiway_search.collection import NOTES, QUESTIONS

if TYPE_CHECKING:
    from multiway_text.search.pipeline import SearchPipeline
    from multiway_text.search.store import Index

MODES = ("hybrid", "dense", "bm25")


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
        hits = pipeline.query(index, question, mode=mode, top=50, highlight=False).hits  # type: ignore[arg-type]
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


def quick_evaluation() -> Report:
    """The bundled model on the app's notes; see ``notes_evaluation``."""
    return notes_evaluation(load_pipeline(APP, ModelOptions(device="cpu")))
