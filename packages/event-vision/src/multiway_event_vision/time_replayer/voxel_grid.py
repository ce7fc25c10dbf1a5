"""Voxel grids of events: Zhu et al. (2019), equations 1 to 3; "Time Lens" (2021).

Shape letters: N bins, H W rows and columns.
"""

from __future__ import annotations

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.events import Events


def voxel_grid(events: Events, start: int, end: int, bins: int) -> NDArray[np.float32]:
    """(bins, height, width): every event, +1 or -1 by its polarity, shared between the two bins next to its time.

    With time from 0 at `start` to 1 at `end` (microseconds) an event has the weight max(0, 1 - |t (bins - 1) - n|) in
    bin n. All events must lie in start <= t <= end. Raises InputError: one does not, or the stretch is not positive.
    """
    if end <= start or bins < 2:
        raise InputError(
            f"a grid of {bins} bins from {start} us to {end} us; expected 2 or more, and a later end"
        )
    if len(events) and (events.t[0] < start or events.t[-1] > end):
        raise InputError(
            f"events from {events.t[0]} us to {events.t[-1]} us for a grid from {start} us to {end} us"
        )
    pixels = events.height * events.width
    place_E = (events.t - start) * ((bins - 1) / (end - start))
    lower_E = np.minimum(place_E.astype(np.int64), bins - 2)
    share_E = place_E - lower_E
    sign_E = 2.0 * events.p - 1
    cell_E = lower_E * pixels + events.y.astype(np.int64) * events.width + events.x
    grid_P = np.bincount(cell_E, sign_E * (1 - share_E), bins * pixels)
    grid_P[pixels:] += np.bincount(cell_E, sign_E * share_E, (bins - 1) * pixels)
    return grid_P.reshape(bins, events.height, events.width).astype(np.float32)


def reverse(events: Events, start: int, end: int) -> Events:
    """The events as if time ran from `end` to `start`: in opposite order, brighter for darker.

    A real sensor would not send quite these: thresholds up and down differ, and it is blind after, not before an event.
    """
    return Events(
        start + end - events.t[::-1],
        events.x[::-1],
        events.y[::-1],
        1 - events.p[::-1],
        events.width,
        events.height,
    )


def reversed_grid(grid_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """The grid of the reversed events, from that of the events."""
    return -grid_NHW[::-1]
