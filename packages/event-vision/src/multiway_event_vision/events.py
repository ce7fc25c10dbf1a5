"""Events in memory: four arrays and the sensor's size. Every reader makes these, everything else takes them.

Times are int64 microseconds everywhere: in float32 they would lose whole microseconds after 17 seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

LARGEST_SENSOR = 1 << 14  # pixels a side: what the widest address of any format here can hold


@dataclass(frozen=True, eq=False)
class Events:
    """A stretch of a recording, in order of time; events of one microsecond keep the order of their arrival.

    t: (N,) int64 microseconds. x, y: (N,) uint16 pixels, origin at the top left. p: (N,) uint8, 1 = brighter,
    0 = darker. The arrays may be views of larger ones: write into a copy.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]
    width: int
    height: int

    @classmethod
    def from_arrays(cls, t: object, x: object, y: object, p: object, width: int, height: int) -> Events:
        """Events from anything array-like with whole numbers, checked. Raises InputError as `check`."""
        columns: dict[str, NDArray] = {}
        types: dict[str, type[np.integer]] = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
        for (name, dtype), values in zip(types.items(), (t, x, y, p), strict=True):
            array = np.asarray(values)
            if array.size == 0:
                array = array.astype(dtype)
            if array.dtype.kind not in "iub":
                raise InputError(f"{name} holds {array.dtype}; expected whole numbers")
            if array.dtype != dtype and array.size and dtype != np.int64:
                low, high = int(array.min()), int(array.max())
                if low < 0 or high > np.iinfo(dtype).max:
                    raise InputError(
                        f"{name} ranges from {low} to {high}; expected 0 to {np.iinfo(dtype).max}"
                    )
            columns[name] = array.astype(dtype, copy=False)
        events = cls(**columns, width=width, height=height)
        events.check()
        return events

    @classmethod
    def empty(cls, width: int, height: int) -> Events:
        """No events of a sensor of `width` by `height` pixels."""
        return cls(
            np.zeros(0, np.int64),
            np.zeros(0, np.uint16),
            np.zeros(0, np.uint16),
            np.zeros(0, np.uint8),
            width,
            height,
        )

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, index: slice | NDArray) -> Events:
        """The events of a slice (views) or of an index or mask array (copies)."""
        return Events(self.t[index], self.x[index], self.y[index], self.p[index], self.width, self.height)

    @property
    def duration(self) -> int:
        """Microseconds from the first to the last event."""
        return int(self.t[-1] - self.t[0]) if len(self.t) else 0

    def between(self, start: int, end: int) -> Events:
        """Events with start <= t < end (microseconds), as views."""
        low, high = np.searchsorted(self.t, (start, end))
        return self[int(low) : int(high)]

    def check(self) -> None:
        """Raises InputError with the first event that breaks a promise of this class."""
        for name, dtype in (("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != (len(self.t),):
                raise InputError(
                    f"{name} has shape {array.shape} and dtype {array.dtype}; "
                    f"expected ({len(self.t)},) and {np.dtype(dtype)}"
                )
        check_size(self.width, self.height)
        if not len(self.t):
            return
        if self.t[0] < 0:
            raise InputError(f"event 0 has the time {self.t[0]} us; times must not be negative")
        if (self.t[1:] < self.t[:-1]).any():
            at = int(np.argmax(self.t[1:] < self.t[:-1])) + 1
            raise InputError(
                f"event {at} is of {self.t[at]} us, earlier than the {self.t[at - 1]} us before it; sort"
            )
        if self.x.max() >= self.width or self.y.max() >= self.height:
            at = int(np.argmax((self.x >= self.width) | (self.y >= self.height)))
            raise InputError(
                f"event {at} lies at ({self.x[at]}, {self.y[at]}), outside the sensor of "
                f"{self.width} x {self.height} pixels"
            )
        if self.p.max() > 1:
            raise InputError(
                f"event {int(np.argmax(self.p > 1))} has the polarity {self.p.max()}; expected 0 or 1"
            )


class EventStream(Protocol):
    """A recording that need not fit memory: its sensor's size, and its events in chunks as often as asked."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def chunks(self, chunk_events: int = ...) -> Iterator[Events]:
        """Yield all events in order of time, at most `chunk_events` at once, from the start again at each call."""
        ...


def check_size(width: int, height: int) -> None:
    """Raises InputError unless `width` and `height` can be a sensor's."""
    if not (0 < width <= LARGEST_SENSOR and 0 < height <= LARGEST_SENSOR):
        raise InputError(f"a sensor of {width} x {height} pixels; expected 1 to {LARGEST_SENSOR} a side")


def concatenate(parts: Iterable[Events]) -> Events:
    """One stretch from stretches that follow one another in time.

    Raises InputError: nothing to join, different sensors, or a part begins before the last one ended.
    """
    parts = list(parts)
    if not parts:
        raise InputError(
            "no events to join, so the sensor's size is unknown; use Events.empty(width, height)"
        )
    sizes = {(part.width, part.height) for part in parts}
    if len(sizes) > 1:
        raise InputError(f"cannot join events of different sensors: {sorted(sizes)}")
    parts = [part for part in parts if len(part)] or parts[:1]
    for before, after in pairwise(parts):
        if after.t[0] < before.t[-1]:
            raise InputError(
                f"a part starts at {after.t[0]} us, before the end of the last one at {before.t[-1]} us; "
                "give them in order of time"
            )
    if len(parts) == 1:
        return parts[0]
    return joined(parts)


def joined(parts: Sequence[Events]) -> Events:
    """The events of `parts` of one sensor behind each other, whatever their times."""
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in "txyp"}
    return Events(**columns, width=parts[0].width, height=parts[0].height)


def by_time(
    stream: Iterable[Events], period: int, *, start: int | None = None
) -> Iterator[tuple[int, Events]]:
    """Yield (start of the window in microseconds, its events) for windows of `period`, gap-free from `start`.

    `start` is the first event's time unless given; earlier events are left out. Windows without events are
    yielded too, empty; after the window of the last event it ends. Holds one window and one chunk in memory.
    Raises InputError: `period` is not positive.
    """
    if period <= 0:
        raise InputError(f"a window of {period} us; expected a positive length")
    held: list[Events] = []
    for chunk in stream:
        if not len(chunk):
            continue
        if start is None:
            start = int(chunk.t[0])
        chunk = chunk[int(np.searchsorted(chunk.t, start)) :]
        while len(chunk) and chunk.t[-1] >= start + period:
            cut = int(np.searchsorted(chunk.t, start + period))
            yield start, concatenate([*held, chunk[:cut]])
            held, chunk, start = [], chunk[cut:], start + period
        if len(chunk):
            held.append(chunk)
    if held and start is not None:
        yield start, concatenate(held)
