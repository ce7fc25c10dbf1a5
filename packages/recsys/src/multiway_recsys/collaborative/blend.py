"""A blend of scores: weights by which clicked candidates are most likely among those shown.

Conditional logit (McFadden 1974): the probability of a candidate is the softmax over its impression of a weighted sum
of scores. The fit is convex; a small penalty keeps weights finite where a score decides alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from multiway_recsys.data.tables import Behaviors


def fit_blend(
    scores_CF: NDArray[np.floating], behaviors: Behaviors, *, l2: float = 1e-3
) -> NDArray[np.float64]:
    """(F,) weights for F scores of labelled candidates. Impressions without a click or without another teach nothing.

    The weights belong to scores as they are given: scaling happens inside and is undone.
    """
    assert behaviors.labels is not None
    offsets = behaviors.candidates.offsets
    rows = np.repeat(np.arange(len(behaviors)), behaviors.candidates.lengths)
    clicks = np.bincount(rows, weights=behaviors.labels, minlength=len(behaviors))
    teaches = (clicks > 0) & (clicks < behaviors.candidates.lengths)
    chosen = teaches[rows]
    x, clicked = np.asarray(scores_CF, np.float64)[chosen], behaviors.labels[chosen] == 1
    starts = np.concatenate([[0], np.cumsum(np.diff(offsets)[teaches])[:-1]]).astype(np.int64)
    if not len(x):
        return np.zeros(scores_CF.shape[1])
    lengths = np.diff(offsets)[teaches]
    scale = np.maximum(x.std(axis=0), 1e-9)
    x = x / scale
    share = clicked / np.repeat(clicks[teaches], lengths)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = x @ weights
        z -= np.repeat(np.maximum.reduceat(z, starts), lengths)
        likely = np.exp(z)
        sums = np.add.reduceat(likely, starts)
        likely /= np.repeat(sums, lengths)
        value = (np.log(sums).sum() - (share * z).sum()) / len(starts) + l2 * (weights**2).sum()
        return float(value), x.T @ (likely - share) / len(starts) + 2 * l2 * weights

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B")
    return found.x / scale
