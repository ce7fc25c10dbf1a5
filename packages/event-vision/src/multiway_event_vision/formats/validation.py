"""From raw columns to `Events`: one place judges time, pixels and polarity for every format.

The first event that cannot be right ends the reading with one line, unless the recording was opened with `repair`:
then what is out of order by less than a block is sorted in, what lies off the sensor is left out, and both are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray

from multiway_event_vision.events import Events, joined
from multiway_event_vision.formats.source import Columns, Source
from multiway_event_vision.formats.time_unit import MICROSECONDS_IN, TimeUnit, to_microseconds

_WRONG_SCALES = (32, 64, 128)  # fixed-point coordinates, as some data sets are published with


@dataclass
class Repairs:
    """What `repair` changed while the recording was last read through."""

    outside: int = 0  # events left out
    unsorted: int = 0  # events moved

    def __str__(self) -> str:
        return f"{self.outside} events off the sensor left out, {self.unsorted} put in order of time"


def validated(
    path: Path, source: Source, size: tuple[int, int], unit: TimeUnit | None, repairs: Repairs | None
) -> Iterator[Events]:
    """Yield the events of `source` block by block. With `repairs`, repair and count; else raise.

    Raises DataError: times unsorted, negative or in another unit than they should be, pixels outside the sensor,
    polarities that are not two-valued.
    """
    width, height = size
    polarity = _Polarity(path)
    number, latest = 0, None
    held: Events | None = None
    for raw in source.columns():
        if not len(raw.t):
            continue
        if unit is None:
            unit = source.time_unit or _judge_unit(path, source, raw)
        t = to_microseconds(path, raw.t, unit, number)
        if source.time_offset:
            t = t + source.time_offset
        p = polarity(raw.p, number)
        inside = _inside(path, raw, size, number, is_repaired=repairs is not None)
        kept = Columns(t, raw.x, raw.y, p)
        if inside is not None and repairs is not None:
            repairs.outside += len(inside) - int(inside.sum())
            kept = Columns(*(column[inside] for column in kept))
        events = Events(
            kept.t,
            kept.x.astype(np.uint16, copy=False),
            kept.y.astype(np.uint16, copy=False),
            kept.p,
            width,
            height,
        )
        if repairs is not None:
            events, held = _sorted_in(events, held, repairs)
        _check_times(path, events.t, latest, number)
        number += len(raw.t)
        if len(events):
            latest = int(events.t[-1])
            yield events
    if held is not None and len(held):
        _check_times(path, held.t, latest, number)
        yield held


def _inside(
    path: Path, raw: Columns, size: tuple[int, int], number: int, is_repaired: bool
) -> NDArray | None:
    """Which events lie on the sensor; None if all do. Raises DataError if one does not and nothing is repaired."""
    bad = None
    for name, values, side in (("x", raw.x, size[0]), ("y", raw.y, size[1])):
        if values.dtype.kind == "f":
            is_bad = ~((values >= 0) & (values < side) & (values == np.floor(values)))
        elif values.dtype.kind == "u":
            if values.max() < side:
                continue
            is_bad = values >= side
        else:
            if values.min() >= 0 and values.max() < side:
                continue
            is_bad = (values < 0) | (values >= side)
        if not is_bad.any():
            continue
        bad = is_bad if bad is None else bad | is_bad
        if not is_repaired:
            at = int(np.argmax(is_bad))
            raise DataError(
                f"{path}: event {number + at} has {name} = {values[at]}; the sensor has {size[0]} x {size[1]} pixels"
                f"{_scale_advice(raw, size)}"
            )
    return None if bad is None else ~bad


def _scale_advice(raw: Columns, size: tuple[int, int]) -> str:
    """A hint where the coordinates are a power of two too large, as some data sets have them."""
    is_outside = (raw.x >= size[0]) | (raw.y >= size[1])
    # A few stray pixels would fit too: a good part of many events must lie off the sensor.
    if len(raw.x) >= 100 and np.mean(is_outside) > 0.25 and min(raw.x.min(), raw.y.min()) >= 0:
        for scale in _WRONG_SCALES:
            right, bottom = raw.x.max() // scale, raw.y.max() // scale
            # Where a sensor was said to be too small, they fit into a corner of it.
            if size[0] / 2 <= right < size[0] and size[1] / 2 <= bottom < size[1]:
                return f"; all coordinates divided by {scale} would fit"
    return "; is the size right? Open with repair to leave such events out"


def _check_times(path: Path, t: NDArray[np.int64], latest: int | None, number: int) -> None:
    if not len(t):
        return
    if t[0] < 0:
        raise DataError(f"{path}: event {number} has the time {t[0]} us; times must not be negative")
    at = None
    if latest is not None and t[0] < latest:
        at, before = 0, latest
    elif (t[1:] < t[:-1]).any():
        at = int(np.argmax(t[1:] < t[:-1])) + 1
        before = int(t[at - 1])
    if at is not None:
        raise DataError(
            f"{path}: event {number + at} is of {t[at]} us, earlier than the {before} us before it; sort the file, or "
            "open it with repair if events are only a little late"
        )


def _sorted_in(events: Events, held: Events | None, repairs: Repairs) -> tuple[Events, Events]:
    """(events that are final, events held back): late ones may still come before those held back."""
    both = events
    if held is not None and len(held):
        both = joined([held, events])
    if (both.t[1:] < both.t[:-1]).any():
        order = np.argsort(both.t, kind="stable")
        repairs.unsorted += int((both.t < np.maximum.accumulate(both.t)).sum())
        both = both[order]
    cut = len(both) // 2
    return both[:cut], both[cut:]


class _Polarity:
    """Polarities as 0 and 1; whether 0 or -1 means darker is settled by whichever comes first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._darker: int | None = None

    def __call__(self, p: NDArray, number: int) -> NDArray[np.uint8]:
        if p.dtype == np.uint8 and p.max() <= 1 and self._darker != -1:
            if self._darker is None and p.min() == 0:
                self._darker = 0
            return p
        is_brighter = p == 1
        rest = p[~is_brighter]
        if len(rest) and self._darker is None:
            self._darker = -1 if rest[0] == -1 else 0
        if (rest != self._darker).any():
            at = int(np.argmax(~is_brighter & (p != self._darker)))
            raise DataError(
                f"{self._path}: event {number + at} has the polarity {p[at]}; "
                f"expected 0 and 1, or -1 and 1, the same throughout"
            )
        return is_brighter.view(np.uint8)


def _judge_unit(path: Path, source: Source, raw: Columns) -> TimeUnit:
    """The unit of the file's times, where the format leaves it open. Raises DataError where they give no answer."""
    t = raw.t
    if t.dtype.kind == "f":
        has_fractions = bool((t != np.floor(t)).any())
        if has_fractions and source.float_seconds:
            return "s"
        if has_fractions:
            raise DataError(
                f"{path}: times with fractions ({t[0]!s} ... {t[-1]!s}); say their unit: {', '.join(MICROSECONDS_IN)}"
            )
    if source.guess_time_unit and len(t) >= 1000:
        span = float(t[-1]) - float(t[0])
        if span * 2000 < len(t):  # no camera sends 2000 events in a microsecond
            raise DataError(
                f"{path}: {len(t)} events within {span:g} us cannot be; the times look like seconds or milliseconds: "
                "say the time unit"
            )
    return "us"
