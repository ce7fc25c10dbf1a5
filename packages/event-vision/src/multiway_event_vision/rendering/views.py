"""Visualisations of a window's events: a view takes them piece by piece and draws one picture.

Blue is brighter, red is darker, grey is either, white is nothing. A view holds one number or two a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.events import Events, check_size

_BRIGHTER = np.array([33, 102, 172], np.float32)
_DARKER = np.array([178, 24, 43], np.float32)
_COUNTED = np.array([31, 41, 55], np.float32)
_NOTHING = np.array([255, 255, 255], np.float32)


class View(Protocol):
    """A way to draw events."""

    def begin(self, start: int, window: int) -> None:
        """A new picture, of the events from `start` on for `window` microseconds."""
        ...

    def add(self, events: Events) -> None:
        """More events of the window, in order of time."""
        ...

    def picture(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8, red, green, blue: the window so far."""
        ...


class PolarityFrame:
    """Brighter minus darker events of every pixel; `full` of them, or more, have the full colour."""

    def __init__(self, width: int, height: int, *, full: float = 2.0) -> None:
        """Raises InputError: no sensor's size, or `full` is not positive."""
        check_size(width, height)
        if full <= 0:
            raise InputError(f"the full colour at {full:g} events; expected more than 0")
        self.width, self.height, self.full = width, height, full
        self._sum_P = np.zeros(width * height, np.float64)

    def begin(self, start: int, window: int) -> None:
        """Forget the last window."""
        self._sum_P[:] = 0

    def add(self, events: Events) -> None:
        """Count the events of every pixel."""
        self._sum_P += np.bincount(_pixels(events), 2.0 * events.p - 1, len(self._sum_P))

    def picture(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8."""
        return _coloured((self._sum_P / self.full).reshape(self.height, self.width))


class EventCount:
    """Events of every pixel, whatever their polarity, in dark grey; `full` of them, or more, have the full colour."""

    def __init__(self, width: int, height: int, *, full: float = 3.0) -> None:
        """Raises InputError: no sensor's size, or `full` is not positive."""
        check_size(width, height)
        if full <= 0:
            raise InputError(f"the full colour at {full:g} events; expected more than 0")
        self.width, self.height, self.full = width, height, full
        self._count_P = np.zeros(width * height, np.int64)

    def begin(self, start: int, window: int) -> None:
        """Forget the last window."""
        self._count_P[:] = 0

    def add(self, events: Events) -> None:
        """Count the events of every pixel."""
        self._count_P += np.bincount(_pixels(events), minlength=len(self._count_P))

    def picture(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8."""
        amount_HW = (self._count_P / self.full).reshape(self.height, self.width)
        return _coloured(amount_HW, _COUNTED)


class TimeSurface:
    """How long ago every pixel sent its last event: exp(-age / decay), in the colour of its polarity.

    Pixels are not forgotten from window to window (Lagorce et al., "HOTS", 2017, equation 3, both polarities in one
    surface). The age counts from the window's end.
    """

    def __init__(self, width: int, height: int, *, decay: int | None = None) -> None:
        """decay: microseconds, the window's length unless given. Raises InputError: it is not positive."""
        check_size(width, height)
        if decay is not None and decay <= 0:
            raise InputError(f"a decay of {decay} us; expected more than 0")
        self.width, self.height, self.decay = width, height, decay
        self._last_P = np.zeros(width * height, np.int64)
        self._sign_P = np.zeros(width * height, np.int8)  # 0: no event yet
        self._end, self._window = 0, 1

    def begin(self, start: int, window: int) -> None:
        """The surface as it will be at `start` + `window`."""
        self._end, self._window = start + window, window

    def add(self, events: Events) -> None:
        """Note every pixel's last event."""
        # Of several values that go to one place, numpy keeps the last: the newest event.
        pixels = _pixels(events)
        self._last_P[pixels] = events.t
        self._sign_P[pixels] = 2 * events.p.astype(np.int8) - 1

    def picture(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8."""
        age_P = (self._end - self._last_P).astype(np.float64)
        value_P = self._sign_P.astype(np.float64) * np.exp(
            -np.maximum(age_P, 0) / (self.decay or self._window)
        )
        return _coloured(value_P.reshape(self.height, self.width))


class VoxelSlice:
    """One bin of the window's voxel grid: an event counts, by its polarity, for the two bins next to its time.

    With t from 0 to 1 along the window and B bins, an event has the weight max(0, 1 - |t (B - 1) - b|) in bin b (Zhu et
    al., "Unsupervised Event-based Learning of Optical Flow, Depth, and Egomotion", 2019, equations 1 to 3).
    """

    def __init__(
        self, width: int, height: int, *, bins: int = 5, bin: int | None = None, full: float = 1.0
    ) -> None:
        """bin: from 0, the middle one unless given. Raises InputError: there is no such bin."""
        check_size(width, height)
        if bins < 2:
            raise InputError(f"{bins} bins; expected 2 or more")
        bin = bins // 2 if bin is None else bin
        if not 0 <= bin < bins:
            raise InputError(f"bin {bin} of {bins}; expected 0 to {bins - 1}")
        if full <= 0:
            raise InputError(f"the full colour at {full:g} events; expected more than 0")
        self.width, self.height, self.bins, self.bin, self.full = width, height, bins, bin, full
        self._sum_P = np.zeros(width * height, np.float64)
        self._start, self._window = 0, 1

    def begin(self, start: int, window: int) -> None:
        """Forget the last window."""
        self._start, self._window = start, window
        self._sum_P[:] = 0

    def add(self, events: Events) -> None:
        """Add the events' weights in this bin."""
        place_N = (events.t - self._start) * ((self.bins - 1) / self._window)
        weight_N = np.maximum(1 - np.abs(place_N - self.bin), 0)
        self._sum_P += np.bincount(_pixels(events), weight_N * (2.0 * events.p - 1), len(self._sum_P))

    def picture(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8."""
        return _coloured((self._sum_P / self.full).reshape(self.height, self.width))


VIEWS: dict[str, Callable[[int, int], View]] = {
    "frame": PolarityFrame,
    "count": EventCount,
    "surface": TimeSurface,
    "voxel": VoxelSlice,
}


def _pixels(events: Events) -> NDArray[np.int64]:
    return events.y.astype(np.int64) * events.width + events.x


def _coloured(value_HW: NDArray[np.float64], brighter: NDArray[np.float32] = _BRIGHTER) -> NDArray[np.uint8]:
    """-1 is the full colour of darker, 1 that of brighter, 0 white."""
    amount_HW1 = np.minimum(np.abs(value_HW), 1).astype(np.float32)[..., None]
    colour_HW3 = np.where((value_HW > 0)[..., None], brighter, _DARKER)
    return np.rint(_NOTHING + amount_HW1 * (colour_HW3 - _NOTHING)).astype(np.uint8)
