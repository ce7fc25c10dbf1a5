"""How good probabilities of classes are: area under the ROC curve, and calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def auc(scores: ArrayLike, positives: ArrayLike) -> float:
    """Share of (positive, negative) pairs in the right order, ties counting half; NaN where one kind is missing."""
    score_N, positive_N = np.asarray(scores, float), np.asarray(positives, bool)
    above, below = score_N[positive_N], np.sort(score_N[~positive_N])
    if not len(above) or not len(below):
        return float("nan")
    left, right = np.searchsorted(below, above, "left"), np.searchsorted(below, above, "right")
    return float((left + right).mean() / 2 / len(below))


def macro_auc(probability_NK: np.ndarray, labels_N: ArrayLike) -> float:
    """Of two classes the second one's; of more the mean of each class against the rest."""
    labels = np.asarray(labels_N)
    if probability_NK.shape[1] == 2:
        return auc(probability_NK[:, 1], labels == 1)
    return float(np.mean([auc(probability_NK[:, k], labels == k) for k in range(probability_NK.shape[1])]))


def calibration_error(probability_NK: np.ndarray, labels_N: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al. 2015): mean |accuracy - confidence| over equal bins of confidence."""
    confidence, right = probability_NK.max(axis=1), probability_NK.argmax(axis=1) == np.asarray(labels_N)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(
        sum(
            abs(right[place == index].mean() - confidence[place == index].mean()) * (place == index).mean()
            for index in np.unique(place)
        )
    )


def brier(probability_NK: np.ndarray, labels_N: ArrayLike) -> float:
    """Mean squared distance of the probabilities from the true class's one-hot vector."""
    truth = np.eye(probability_NK.shape[1])[np.asarray(labels_N)]
    return float(((probability_NK - truth) ** 2).sum(axis=1).mean())
