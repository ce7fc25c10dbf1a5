"""What the pipeline gives, each with its JSON form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiway_text.encoder import scores


@dataclass(frozen=True)
class Embeddings:
    """Vectors of texts, (texts, width) float32, and tokens of each text, special ones included.

    ``truncated``: the texts, by number, of which the model saw the beginning only.
    """

    model: str
    vectors: NDArray[np.float32]
    tokens: tuple[int, ...]
    truncated: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.encoder.embeddings/1``."""
        return {
            "schema": "multiway.encoder.embeddings/1",
            "model": self.model,
            "dimensions": self.vectors.shape[1],
            "embeddings": [[round(float(x), 7) for x in row] for row in self.vectors],
            "tokens": list(self.tokens),
            "truncated": list(self.truncated),
        }


@dataclass(frozen=True)
class Similarities:
    """Cosines of each text with each of the others, (texts, others) float32."""

    model: str
    texts: tuple[str, ...]
    others: tuple[str, ...]
    cosines: NDArray[np.float32]
    truncated: tuple[int, ...] = ()

    def nearest(self, row: int, count: int) -> list[tuple[int, float]]:
        """The ``count`` most similar of the others to a text: (number, cosine), best first."""
        order = np.argsort(-self.cosines[row], kind="stable")[:count]
        return [(int(place), float(self.cosines[row, place])) for place in order]

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.encoder.similarity/1``."""
        return {
            "schema": "multiway.encoder.similarity/1",
            "model": self.model,
            "texts": list(self.texts),
            "others": list(self.others),
            "cosines": [[round(float(x), 6) for x in row] for row in self.cosines],
            "truncated": list(self.truncated),
        }


@dataclass(frozen=True)
class Classification:
    """Labels of a text with their probabilities, the likeliest first (one label without: a predicted score)."""

    text: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    truncated: bool = False

    @property
    def label(self) -> str:
        """The likeliest."""
        return self.labels[0]

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.encoder.classification/1``."""
        rows = [
            {"label": label, "score": round(score, 6)}
            for label, score in zip(self.labels, self.scores, strict=True)
        ]
        return {
            "schema": "multiway.encoder.classification/1",
            "text": self.text,
            "label": self.label,
            "scores": rows,
            "truncated": self.truncated,
        }


@dataclass(frozen=True)
class SpanAnswer:
    """What of a context answers a question: characters [start, end) and the probability of both ends.

    Without an answer the text is empty, and the probability is that of none. ``margin``: log-odds of the best span
    against no answer.
    """

    text: str
    start: int
    end: int
    score: float
    margin: float

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.encoder.answer/1``."""
        numbers = {"score": round(self.score, 6), "margin": round(self.margin, 6)}
        return {"schema": "multiway.encoder.answer/1", **vars(self), **numbers}


@dataclass(frozen=True)
class TaggedWord:
    """A word of a text, its characters [start, end), its tag and the tag's probability."""

    word: str
    start: int
    end: int
    tag: str
    score: float


@dataclass(frozen=True)
class Span:
    """Words that BIO tags join to one thing: characters [start, end) and its label."""

    text: str
    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Tagging:
    """The tags of a text."""

    text: str
    words: tuple[TaggedWord, ...]

    @property
    def spans(self) -> list[Span]:
        """What BIO tags mark (``B-PER I-PER``); a tag without prefix marks its own word, ``O`` nothing."""
        found = sorted(scores.spans([word.tag for word in self.words]))
        places = [(self.words[first].start, self.words[end - 1].end, label) for first, end, label in found]
        return [Span(self.text[start:end], start, end, label) for start, end, label in places]

    def to_json(self) -> dict[str, Any]:
        """Schema ``multiway.encoder.tagging/1``."""
        return {
            "schema": "multiway.encoder.tagging/1",
            "text": self.text,
            "words": [{**vars(word), "score": round(word.score, 6)} for word in self.words],
            "spans": [vars(span) for span in self.spans],
        }
