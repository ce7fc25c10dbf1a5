"""What the pipeline gives, each with its JSON form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multiway_text.search.store import Passage


@dataclass(frozen=True)
class Hit:
    """A passage that was found.

    Attributes:
        score: that the order is by: of the weighted sum, of rank fusion, a cosine, or BM25.
        cosine, bm25: of the parts that found it; a picture's cosine is that of a text which is as near.
        highlight: characters [start, end) of the passage that answer best.
        terms: characters [start, end) of the passage that are words of the query.
    """

    passage: Passage
    score: float
    cosine: float | None = None
    bm25: float | None = None
    highlight: tuple[int, int] | None = None
    terms: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A hit of ``multiway.search.results/1``."""
        return {
            "id": self.passage.id,
            "path": self.passage.path,
            "kind": self.passage.kind,
            "place": self.passage.place,
            "start": self.passage.start,
            "end": self.passage.end,
            "text": self.passage.text,
            "score": round(self.score, 6),
            "cosine": None if self.cosine is None else round(self.cosine, 6),
            "bm25": None if self.bm25 is None else round(self.bm25, 6),
            "highlight": None if self.highlight is None else list(self.highlight),
            "terms": [list(span) for span in self.terms],
        }


@dataclass(frozen=True)
class Results:
    """The passages for a query, best first; ``notes``: what a user should know about the query."""

    query: str
    mode: str
    hits: tuple[Hit, ...]
    passages: int
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.search.results/1``."""
        return {
            "schema": "multiway.search.results/1",
            "query": self.query,
            "mode": self.mode,
            "passages": self.passages,
            "seconds": round(self.seconds, 4),
            "notes": list(self.notes),
            "hits": [hit.to_json() for hit in self.hits],
        }


@dataclass(frozen=True)
class SimilarDocument:
    """A document that is near to another in meaning: its path and the cosine of the means of their vectors."""

    path: str
    cosine: float

    def to_json(self) -> dict[str, Any]:
        """A document of ``multiway.search.similar/1``."""
        return {"path": self.path, "cosine": round(self.cosine, 6)}


@dataclass(frozen=True)
class UpdateReport:
    """What an update did, in documents; ``failed`` and ``problems`` name what could not be read, and why.

    ``embedded``: passages, and ``pictures``: pictures of which vectors were made.

    ``failed``: documents without any text in the index. ``problems``: parts of documents that are in.
    """

    added: int
    changed: int
    unchanged: int
    renamed: int
    removed: int
    empty: int
    failed: tuple[tuple[str, str], ...]
    problems: tuple[tuple[str, str], ...]
    documents: int
    passages: int
    embedded: int
    seconds: float
    pictures: int = 0

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.search.update/1``."""
        told = {**vars(self), "seconds": round(self.seconds, 3)}
        for key in ("failed", "problems"):
            told[key] = [{"source": path, "error": reason} for path, reason in getattr(self, key)]
        return {"schema": "multiway.search.update/1", **told}

    def summary(self) -> str:
        """In a line."""
        parts = [
            f"{count:,} {name}"
            for name, count in (
                ("new", self.added),
                ("changed", self.changed),
                ("renamed", self.renamed),
                ("removed", self.removed),
                ("unchanged", self.unchanged),
                ("empty", self.empty),
                ("not readable", len(self.failed)),
            )
            if count
        ]
        total = f"{self.documents:,} documents, {self.passages:,} passages"
        return f"{', '.join(parts) or 'nothing'}; the index has {total}"
