"""What the pipeline gives, each with its JSON form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A span that may answer a question.

    Attributes:
        probability: that it is right, by the model's calibration.
        margin: its log-odds against no answer, by which answers are ordered.
        source: the document's path or name.
        place: ``page 3`` or ``line 12`` of the document; empty where neither is known.
        start, end: characters [start, end) of the page or row, or of the whole text.
        passage: the text that was read.
        passage_start, passage_end: the answer's characters in it.
        retrieval: score of the passage; None where nothing was searched.
    """

    text: str
    probability: float
    margin: float
    source: str
    place: str
    start: int
    end: int
    passage: str
    passage_start: int
    passage_end: int
    retrieval: float | None = None

    def to_json(self) -> dict[str, Any]:
        """An answer of ``multiway.question-answering/1``."""
        told = {**vars(self), "probability": round(self.probability, 6), "margin": round(self.margin, 4)}
        return told | {"retrieval": None if self.retrieval is None else round(self.retrieval, 6)}


@dataclass(frozen=True)
class Answers:
    """The likeliest answers to a question, best first.

    Attributes:
        answered: whether the best is likelier than the threshold; otherwise the texts do not say.
        passages, read: how many passages there are, and how many of them were read.
        notes: what a user should know about the question or the model.
    """

    question: str
    answered: bool
    answers: tuple[Answer, ...]
    threshold: float
    passages: int
    read: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def probability(self) -> float:
        """That the best answer is right; 0 without any."""
        return self.answers[0].probability if self.answers else 0.0

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.question-answering/1``."""
        return {
            "schema": "multiway.question-answering/1",
            "question": self.question,
            "answered": self.answered,
            "probability": round(self.probability, 6),
            "threshold": self.threshold,
            "passages": self.passages,
            "read": self.read,
            "seconds": round(self.seconds, 4),
            "notes": list(self.notes),
            "answers": [answer.to_json() for answer in self.answers],
        }
