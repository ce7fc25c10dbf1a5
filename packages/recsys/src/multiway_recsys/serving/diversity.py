"""Diversification of lists: maximal marginal relevance, a cap a category, no near-duplicates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ALIKE = 0.95  # cosine from which two articles count as the same story told again
MAX_ALIKE = 2


def diversify(
    relevance_P: NDArray[np.float32],
    vectors_Pd: NDArray[np.float32],
    categories_P: NDArray[np.integer],
    count: int,
    *,
    diversity: float = 0.3,
    per_category: int | None = None,
) -> NDArray[np.int64]:
    """Places of up to ``count`` of P candidates, in the order to show them.

    Each next one is the candidate with the largest ``(1 - diversity) * relevance - diversity * similarity``, where
    relevance is brought to 0..1 over the candidates and similarity is the largest cosine with one that is already
    chosen (Carbonell and Goldstein, SIGIR 1998). A category that has ``per_category`` articles, and a story that has
    ``MAX_ALIKE``, wait until nothing else is left. With ``diversity=0`` and no cap the order is that of relevance.

    Args:
        relevance_P: scores, higher is better; ties go to the earlier candidate.
        vectors_Pd: what similarity is taken over; any length, a zero vector is like nothing.
        categories_P: category of each.
        count: how many to choose at most.
        diversity: 0 (relevance only) to 1 (difference only).
        per_category: most articles of one category.
    """
    size = len(relevance_P)
    count = min(count, size)
    if count == 0:
        return np.zeros(0, np.int64)
    if diversity == 0 and per_category is None:
        return np.argsort(-relevance_P, kind="stable")[:count]
    spread = float(relevance_P.max() - relevance_P.min())
    relevance = (relevance_P - relevance_P.min()) / spread if spread > 0 else np.ones(size, np.float32)
    lengths = np.linalg.norm(vectors_Pd, axis=1, keepdims=True)
    unit_Pd = np.divide(vectors_Pd, lengths, out=np.zeros_like(vectors_Pd), where=lengths > 0)
    nearest = np.zeros(size, np.float32)
    alike = np.zeros(size, np.int64)
    of_category = np.zeros(int(categories_P.max()) + 1, np.int64)
    left = np.ones(size, bool)
    chosen = []
    for _ in range(count):
        allowed = left.copy()
        if diversity > 0:
            allowed &= alike < MAX_ALIKE
        if per_category is not None:
            allowed &= of_category[categories_P] < per_category
        if not allowed.any():
            allowed = left
        value = np.where(allowed, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        best = int(np.argmax(value))
        chosen.append(best)
        left[best] = False
        of_category[categories_P[best]] += 1
        similarity = unit_Pd @ unit_Pd[best]
        np.maximum(nearest, similarity, out=nearest)
        alike += similarity >= ALIKE
    return np.array(chosen, np.int64)
