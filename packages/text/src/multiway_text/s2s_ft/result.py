"""What the writing pipeline gives back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "multiway.summarization/1"


@dataclass(frozen=True)
class Section:
    """A window of the text, ``text[start:end]``, and its own title; ``score``: mean log-probability of a token."""

    start: int
    end: int
    title: str
    score: float


@dataclass(frozen=True)
class Title:
    """The title of a text; a long text has the titles of its windows beside it."""

    title: str
    sections: tuple[Section, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON takes it."""
        return {"schema": SCHEMA, "kind": "title", **asdict(self)}


@dataclass(frozen=True)
class Question:
    """A question about a passage. ``start``, ``end``: what of the passage was read; ``score`` as of `Section`."""

    question: str
    answer: str
    start: int
    end: int
    score: float

    def to_json(self) -> dict[str, Any]:
        """The result as JSON takes it."""
        return {"schema": SCHEMA, "kind": "question", **asdict(self)}


@dataclass(frozen=True)
class SummarySentence:
    """A sentence of the text, ``text[start:end]``; ``score``: mean log-probability of the title behind it alone."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Summary:
    """Sentences of the text in their order, and its generated title."""

    title: str
    sentences: tuple[SummarySentence, ...]

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(" ".join(sentence.text.split()) for sentence in self.sentences)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON takes it."""
        return {"schema": SCHEMA, "kind": "summary", "text": self.text, **asdict(self)}
