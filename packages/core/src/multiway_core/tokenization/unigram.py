"""Sampling segmentations of a Unigram vocabulary (subword regularization, Kudo 2018, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_UNKNOWN_PENALTY = 10.0  # SentencePiece: a character without a piece scores this much below the rarest piece


class _Arc(NamedTuple):
    start: int
    piece: int
    score: float


class Lattice:
    """All ways to write a text in the pieces of a vocabulary.

    Args:
        pieces: piece -> (id, log-probability).
        unknown: the id of characters that no piece covers.
        words: text -> normalized parts; no piece spans two of them.
    """

    def __init__(
        self,
        pieces: Mapping[str, tuple[int, float]],
        unknown: int,
        words: Callable[[str], Iterable[str]],
    ) -> None:
        self.pieces, self.unknown, self.words = pieces, unknown, words
        self.max_length = max(map(len, pieces), default=1)
        self.unknown_score = min((score for _, score in pieces.values()), default=0.0) - _UNKNOWN_PENALTY

    def sample(self, text: str, alpha: float, generator: torch.Generator | None) -> list[int]:
        """Ids of one segmentation drawn with probability proportional to P(segmentation) ** alpha.

        Forward filtering, backward sampling: exact over all segmentations. A run of unknown characters is one token.
        """
        ids: list[int] = []
        for word in self.words(text):
            found: list[int] = []
            ends = self._arcs(word)
            total = [0.0] + [-math.inf] * len(word)  # log of the summed weights of all ways to reach a place
            for end in range(1, len(word) + 1):
                total[end] = _log_sum([total[arc.start] + alpha * arc.score for arc in ends[end]])
            end = len(word)
            while end:
                draw = float(torch.rand((), generator=generator, dtype=torch.float64))
                for arc in ends[end]:
                    draw -= math.exp(total[arc.start] + alpha * arc.score - total[end])
                    if draw < 0:
                        break
                found.append(arc.piece)
                end = arc.start
            ids += reversed(found)
        return [
            index
            for place, index in enumerate(ids)
            if index != self.unknown or ids[place - 1 : place] != [index]
        ]

    def _arcs(self, word: str) -> list[list[_Arc]]:
        """For every place the pieces that end there."""
        arcs: list[list[_Arc]] = [[] for _ in range(len(word) + 1)]
        for start in range(len(word)):
            for end in range(start + 1, min(start + self.max_length, len(word)) + 1):
                piece = self.pieces.get(word[start:end])
                if piece is not None:
                    arcs[end].append(_Arc(start, *piece))
                elif end == start + 1:
                    arcs[end].append(_Arc(start, self.unknown, self.unknown_score))
        return arcs


def _log_sum(values: list[float]) -> float:
    most = max(values)
    return most + math.log(math.fsum(math.exp(value - most) for value in values))
