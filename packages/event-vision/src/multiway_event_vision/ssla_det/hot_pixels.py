"""Hot pixels of a stream: a pixel that sends more than a camera's pixel should is cut down to a rate.

The released code keeps the first 50 events of a pixel in each window of 100 ms. A stream has no windows, so each pixel
has a bucket here: 50 tokens at first, one for each event that passes, and 50 more in every 100 ms, evenly, up to 50. A
filter stands before an engine, so that an event that was cut is no previous event of its pixel either.
"""

from __future__ import annotations

import numpy as np
from multiway_core.errors import InputError

from multiway_event_vision.events import Events


class HotPixelFilter:
    """A token bucket for each pixel of a sensor of height x width; keeps its count between calls."""

    def __init__(self, height: int, width: int, *, max_events: int = 50, period_us: int = 100_000) -> None:
        """`max_events` events a pixel at once, and as many in each `period_us` in the long run. Raises InputError."""
        if min(height, width, max_events, period_us) < 1:
            raise InputError(
                f"a filter of {max_events} events in {period_us} us on {width}x{height} pixels; all must be positive"
            )
        self.height, self.width = height, width
        self._cost, self._full = (
            period_us,
            max_events * period_us,
        )  # an event costs a period, a microsecond brings `max_events`
        self._max_events = max_events
        self.reset()

    def reset(self) -> None:
        """All buckets full: forget the stream."""
        self._level_P = np.full(self.height * self.width, self._full, np.int64)
        self._seen_P = np.zeros(self.height * self.width, np.int64)

    def __call__(self, events: Events) -> Events:
        """The events that pass, in order. Raises InputError: a sensor of another size, or times that run backwards."""
        if (events.height, events.width) != (self.height, self.width):
            raise InputError(
                f"events of a sensor of {events.width}x{events.height} pixels, expected {self.width}x{self.height}"
            )
        pixel_N = events.y.astype(np.int64) * self.width + events.x
        if (events.t < self._seen_P[pixel_N]).any():
            raise InputError("events: time runs backwards behind those of the last call")
        order = np.argsort(pixel_N, kind="stable")
        start_M = np.flatnonzero(np.diff(pixel_N[order], prepend=-1))
        count_M = np.diff(np.append(start_M, len(order)))
        pixel_M = pixel_N[order[start_M]]
        level_M, seen_M = self._level_P[pixel_M], self._seen_P[pixel_M]
        passes_N = np.ones(len(order), bool)
        # Pixels run side by side, each turn takes the next event of all that have one left.
        left = np.arange(len(start_M))
        turn = 0
        while len(left):
            number = order[start_M[left] + turn]
            t = events.t[number]
            level = np.minimum(level_M[left] + (t - seen_M[left]) * self._max_events, self._full)
            passes = level >= self._cost
            passes_N[number] = passes
            level_M[left], seen_M[left] = level - passes * self._cost, t
            turn += 1
            left = left[count_M[left] > turn]
        self._level_P[pixel_M], self._seen_P[pixel_M] = level_M, seen_M
        return events if passes_N.all() else events[passes_N]
