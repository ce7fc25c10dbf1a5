"""Times of any unit as whole microseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray

TimeUnit = Literal["us", "ms", "s", "ns"]
MICROSECONDS_IN = {"us": 1.0, "ms": 1e3, "s": 1e6, "ns": 1e-3}
_LATEST = 1 << 60  # microseconds; beyond it, sums of times could overflow


def named_unit(name: str | None) -> TimeUnit | None:
    """The unit that a file names; None where it names none, or one that is not known."""
    return name if name in MICROSECONDS_IN else None  # type: ignore[return-value]


def to_microseconds(path: Path, t: NDArray, unit: TimeUnit, number: int) -> NDArray[np.int64]:
    """int64 microseconds of `t`; fractions of a microsecond are rounded, those of nanoseconds cut.

    `number` is the first event's, for the message. Raises DataError: not a number, or beyond 36,000 years.
    """
    if t.dtype == np.int64 and unit == "us":
        times = t
    elif t.dtype.kind == "f":
        scaled = t.astype(np.float64) * MICROSECONDS_IN[unit]
        is_bad = ~(np.abs(scaled) < _LATEST)
        if is_bad.any():
            at = int(np.argmax(is_bad))
            raise DataError(f"{path}: event {number + at} has the time {t[at]!s}; expected a finite number")
        times = np.rint(scaled).astype(np.int64)
    elif unit == "ns":
        times = (t // 1000).astype(np.int64)
    else:
        factor = int(MICROSECONDS_IN[unit])
        if len(t) and (int(t.max()) * factor > _LATEST or int(t.min()) * factor < -_LATEST):
            at = int(np.argmax(t > _LATEST // factor))
            raise DataError(f"{path}: event {number + at} has the time {t[at]!s}; that is no time in {unit}")
        times = t.astype(np.int64) * factor
    if len(times) and times.max() > _LATEST:
        raise DataError(
            f"{path}: event {number + int(np.argmax(times > _LATEST))} has the time {times.max()} us"
        )
    return times
