"""Writing EVT 3.0: a word for whatever changed since the event before, vectors for three events together in a row."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from multiway_core.errors import InputError
from multiway_core.files import atomic_write
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.formats.evt3 import (
    ADDRESS_X,
    ADDRESS_Y,
    TIME_BITS,
    TIME_HIGH,
    TIME_LOW,
    VECTOR_12,
    VECTOR_BASE,
)
from multiway_event_vision.formats.evt_header import check_addressable, evt_header

VECTOR_WIDTH = 12
MIN_EVENTS = 3  # two words for a vector: from three events on it is the shorter
# Upper times that readers meet while nothing happens: at most half a round apart, so that rounds can be counted.
_MAX_STEP = 1 << (TIME_BITS - 1)
_MAX_GAP = 1 << 16  # in such steps, 6.4 days


def write_evt3(path: Path, chunks: Iterable[Events], size: tuple[int, int], *, vectors: bool = True) -> None:
    """Write `chunks` of a sensor of `size` (width, height).

    The first event's time is kept modulo 2^24 microseconds (16.8 seconds), those after it relative to it.

    Raises InputError: more than 2048 pixels a side, or six days without an event. OutputError.
    """
    check_addressable("EVT3", size)
    encoder = _Encoder(vectors)
    with atomic_write(path) as file:
        file.write(evt_header(3, size))
        for events in chunks:
            file.write(encoder(events).data)


class _Encoder:
    def __init__(self, vectors: bool) -> None:
        self._vectors = vectors
        self._t: int | None = None
        self._y = -1

    def __call__(self, events: Events) -> NDArray[np.uint16]:
        if not len(events):
            return np.zeros(0, "<u2")
        first_G, is_vector_G, mask_G = self._groups(events)
        t_G, y_G = events.t[first_G], events.y[first_G].astype(np.int64)
        x_G, p_G = events.x[first_G].astype(np.int64), events.p[first_G].astype(np.int64)

        high_G = t_G >> TIME_BITS
        rise_G = np.diff(high_G, prepend=high_G[0] - 1 if self._t is None else self._t >> TIME_BITS)
        highs_G = -(-rise_G // _MAX_STEP)
        if highs_G.max() > _MAX_GAP:
            raise InputError(
                f"{rise_G.max() << TIME_BITS} us without an event are too long for EVT3; write npz"
            )
        has_low_G = np.diff(t_G, prepend=-1 if self._t is None else self._t) != 0
        has_y_G = np.diff(y_G, prepend=self._y) != 0
        words_G = highs_G + has_low_G + has_y_G + 1 + is_vector_G

        end_G = np.cumsum(words_G)
        words_N = np.empty(int(end_G[-1]), "<u2")
        last_G = end_G - 1
        words_N[last_G] = np.where(is_vector_G, VECTOR_12 << 12 | mask_G, ADDRESS_X << 12 | p_G << 11 | x_G)
        start_x_G = x_G // VECTOR_WIDTH * VECTOR_WIDTH
        words_N[last_G[is_vector_G] - 1] = (VECTOR_BASE << 12 | p_G << 11 | start_x_G)[is_vector_G]
        at_y_G = last_G - 1 - is_vector_G
        words_N[at_y_G[has_y_G]] = (ADDRESS_Y << 12 | y_G)[has_y_G]
        at_low_G = at_y_G - has_y_G
        words_N[at_low_G[has_low_G]] = (TIME_LOW << 12 | t_G & 0xFFF)[has_low_G]
        of_group = np.repeat(np.arange(len(first_G)), highs_G)
        from_last = np.repeat(np.cumsum(highs_G), highs_G) - 1 - np.arange(len(of_group))
        at_high = (at_low_G - has_low_G)[of_group] - from_last
        words_N[at_high] = TIME_HIGH << 12 | (high_G[of_group] - from_last * _MAX_STEP) & 0xFFF

        self._t, self._y = int(t_G[-1]), int(y_G[-1])
        return words_N

    def _groups(self, events: Events) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """Events that one vector can hold: (index of each group's first event, is it a vector, its 12-bit mask)."""
        count = len(events)
        if not self._vectors:
            return np.arange(count), np.zeros(count, bool), np.zeros(count, np.int64)
        column = events.x.astype(np.int64) // VECTOR_WIDTH
        is_same = (events.t[1:] == events.t[:-1]) & (events.y[1:] == events.y[:-1])
        is_same &= (
            (events.p[1:] == events.p[:-1]) & (column[1:] == column[:-1]) & (events.x[1:] > events.x[:-1])
        )
        starts = np.concatenate([[True], ~is_same])
        # Groups too small for a vector fall apart into single events.
        sizes = np.diff(np.concatenate([np.flatnonzero(starts), [count]]))
        starts |= np.repeat(sizes < MIN_EVENTS, sizes)
        first_G = np.flatnonzero(starts)
        sizes_G = np.diff(np.concatenate([first_G, [count]]))
        mask_G = np.bitwise_or.reduceat(1 << (events.x - column * VECTOR_WIDTH), first_G)
        return first_G, sizes_G >= MIN_EVENTS, mask_G
