"""A recording as a row of pictures, window after window without a gap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.events import EventStream
from multiway_event_vision.rendering.views import View

MAX_PICTURES = 1_000_000  # nine hours at 30 a second; more is a time that cannot be right


class Picture(NamedTuple):
    """The picture of one window: (height, width, 3) uint8, and the microsecond at which the window starts."""

    start: int
    image: NDArray[np.uint8]


def pictures(
    stream: EventStream, view: View, window: int, *, start: int = 0, end: int | None = None
) -> Iterator[Picture]:
    """Yield a picture of every `window` microseconds, from `start` to the last event, those without events too.

    start, end: microseconds after the first event; events from `end` on are left out. Holds one chunk and the view.
    Raises InputError: a window or a stretch that is not positive, nothing in it, or more than `MAX_PICTURES`;
    DataError from the stream.
    """
    if window <= 0:
        raise InputError(f"a window of {window} us; expected more than 0")
    if start < 0 or (end is not None and end <= start):
        raise InputError(f"a stretch from {start} us to {end} us; expected 0 <= start < end")
    first: int | None = None
    begin = stop = 0  # of the window that is being filled
    is_filled = False
    for chunk in stream.chunks():
        if first is None:
            first = int(chunk.t[0])
            begin, stop = first + start, first + start + window
        is_over = end is not None and int(chunk.t[-1]) >= first + end
        chunk = chunk.between(first + start, int(chunk.t[-1]) + 1 if end is None else first + end)
        if len(chunk) and chunk.t[-1] - (first + start) >= MAX_PICTURES * window:
            raise InputError(
                f"windows of {window} us make more than {MAX_PICTURES:,} pictures up to the event of "
                f"{chunk.t[-1]} us; give a longer window or an end"
            )
        while len(chunk):
            if not is_filled:
                view.begin(begin, window)
                is_filled = True
            if chunk.t[-1] < stop:
                view.add(chunk)
                break
            cut = int(np.searchsorted(chunk.t, stop))
            view.add(chunk[:cut])
            yield Picture(begin, view.picture())
            chunk, is_filled = chunk[cut:], False
            begin, stop = stop, stop + window
        if is_over:
            break
    if is_filled:
        yield Picture(begin, view.picture())
    elif first is None:
        raise InputError("the recording holds no events; there is nothing to draw")
    elif begin == first + start:
        raise InputError(f"no events at {start} us after the first one or later; give an earlier start")
