"""Percentile bootstrap of a (weighted) mean over samples.

The intervals are those of `scipy.stats.bootstrap` (paired, percentile); a test compares them. SciPy is no dependency of
this package, takes more than a second to import, and gives infinities where a resample's denominators sum to 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
CONFIDENCE = 0.95
_CHUNK_ELEMENTS = 4_000_000  # bounds the index table at 32 MB however large the data set is


class Interval(NamedTuple):
    """A mean with its confidence interval; ``low`` and ``high`` are None when one sample gives no spread."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(
    numerators: ArrayLike,
    denominators: ArrayLike | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """``sum(numerators) / sum(denominators)`` with a percentile bootstrap interval over samples.

    Args:
        numerators: one number a sample, shape (n,), n >= 1, no NaN.
        denominators: one number a sample, shape (n,); None means 1 each (the plain mean).
        seed: of the resampling; the same seed and input give the same interval.
        resamples: number of bootstrap data sets.
        confidence: mass inside the interval, 0 < confidence < 1.

    Raises:
        ValueError: empty input, shapes that differ, or denominators that sum to 0.
    """
    top_N = np.asarray(numerators, dtype=np.float64)
    bottom_N = np.ones_like(top_N) if denominators is None else np.asarray(denominators, dtype=np.float64)
    if top_N.ndim != 1 or top_N.shape != bottom_N.shape or top_N.size == 0:
        raise ValueError(f"need two equal non-empty 1-D arrays, not {top_N.shape} and {bottom_N.shape}")
    total = bottom_N.sum()
    if total == 0:
        raise ValueError("the denominators sum to 0")
    mean = float(top_N.sum() / total)
    size = top_N.size
    if size == 1:
        return Interval(mean, None, None)
    random = np.random.default_rng(seed)
    means_R = np.empty(resamples)
    chunk = max(1, _CHUNK_ELEMENTS // size)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        index_RN = random.integers(0, size, size=(rows, size))
        with np.errstate(invalid="ignore", divide="ignore"):
            means_R[start : start + rows] = top_N[index_RN].sum(axis=1) / bottom_N[index_RN].sum(axis=1)
    means_R = means_R[np.isfinite(means_R)]  # a resample may hold only samples of denominator 0
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(means_R, [tail, 1.0 - tail])
    return Interval(mean, float(low), float(high))
