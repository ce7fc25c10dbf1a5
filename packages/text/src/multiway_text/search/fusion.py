"""How a query finds passages, and one score of two: how near they are in meaning, and how well their words fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Mode = Literal["hybrid", "rrf", "dense", "bm25"]
"""By `weighted_sum`, by `reciprocal_ranks`, by meaning alone, by words alone."""
FUSED = 100
"""Passages of each part that fusion looks at."""
NEAR = 0.3
"""Weight of nearness in meaning; the rest is that of words."""
RANK_OFFSET = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)."""


def weighted_sum(cosines: Mapping[int, float], bm25: Mapping[int, float], best: float) -> dict[int, float]:
    """`NEAR` of where a cosine lies between the ``FUSED``-th (0) and the first (1), and the rest of BM25 / ``best``.

    A combination that is convex, with BM25 made comparable by the most that it can be (``Index.best_bm25``; Bruch, Gai
    and Ingber, 2023, arXiv 2210.11934). So a question whose rare words stand nowhere is answered by meaning: what
    passages share with it is little of what they could. ``cosines`` falls from the first on; a passage that is not
    among them is as near as its last.
    """
    values = list(cosines.values())
    low = values[min(FUSED, len(values)) - 1] if values else 0.0
    span = max(values[0] - low, 1e-9) if values else 1.0
    least = (values[-1] - low) / span if values else 0.0
    return {
        number: NEAR * ((cosines[number] - low) / span if number in cosines else least)
        + (1 - NEAR) * bm25.get(number, 0.0) / max(best, 1e-9)
        for number in dict.fromkeys([*cosines, *bm25])
    }


def reciprocal_ranks(rankings: Sequence[Sequence[int]]) -> dict[int, float]:
    """Reciprocal rank fusion: for each item the sum of 1 / (60 + its place) over the rankings that have it."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for place, number in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (RANK_OFFSET + place)
    return scores
