"""Unwraps timestamp counters of a few bits into monotonic times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Unwrapper:
    """Counts how often a counter of `bits` bits began anew; carries that across blocks.

    A step back by at most `tolerance` is disorder and stays one; a larger step back is a new round, and a step
    forward by nearly a whole round, after a new one has begun, is a late value of the round before.
    """

    def __init__(self, bits: int, tolerance: int) -> None:
        self._period = 1 << bits
        self._tolerance = tolerance
        self._last: int | None = None
        self._round = 0

    def __call__(self, values: NDArray, *, is_sorted: bool | None = None) -> NDArray[np.int64]:
        """Unwrapped int64 of `values` from 0, which follow those of the last call.

        `is_sorted`: whether they never go back, where the caller knows. int64 that need nothing are given back.
        """
        if not len(values):
            return np.zeros(0, np.int64)
        first = int(values[0]) if self._last is None else self._last
        self._last = int(values[-1])
        times = values.astype(np.int64, copy=False)
        start = self._round
        # Most blocks have no step back and none over a round: two comparisons settle them.
        is_short = self._last - first < self._period - self._tolerance
        if is_sorted is None:
            is_sorted = not (values[1:] < values[:-1]).any()
        if is_sorted and int(values[0]) >= first and (is_short or not start):
            return times + start * self._period if start else times
        steps = np.diff(times, prepend=first)
        rounds = np.zeros(len(times) + 1, np.int64)
        for at in np.flatnonzero((steps < -self._tolerance) | (steps >= self._period - self._tolerance)):
            if steps[at] < 0:
                self._round += 1
                rounds[at] += 1
            elif self._round:
                self._round -= 1
                rounds[at] -= 1
        return times + (start + np.cumsum(rounds[:-1])) * self._period


def running_count(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number of set values up to and with each; several times faster than `cumsum` of booleans."""
    count = mask.astype(np.int32)
    return np.cumsum(count, out=count)
