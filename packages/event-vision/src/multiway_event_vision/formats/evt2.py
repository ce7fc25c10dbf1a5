"""Prophesee RAW, EVT 2.0: 32-bit little-endian words; bits 31-28 tell what a word is.

0 and 1: an event, darker or brighter, with the low 6 bits of its time in 27-22, x in 21-11, y in 10-0. 8: the upper
28 bits of the time from here on. All else (triggers and the like) is passed over, and so are events before the first
upper time, whose time nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from multiway_core.files import atomic_write
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.formats.evt_header import check_addressable, evt_header
from multiway_event_vision.formats.native_decoders import NativeEvt2Decoder, library
from multiway_event_vision.formats.prophesee_header import header_size
from multiway_event_vision.formats.source import Columns, Options, Source, record_blocks, whole_records
from multiway_event_vision.formats.unwrap import Unwrapper, running_count

TIME_HIGH = 8
LOW_BITS = 6
_TOLERANCE = 1 << 14  # of 64 us: steps back by more than a second are a new round of the 4.8 hours


def open_evt2(path: Path, header: dict[str, str], start: int, options: Options) -> Source:
    """A recording whose words begin at byte `start`. Raises DataError: a cut word."""
    count = whole_records(path, start, 4, options.repair)

    def columns() -> Iterator[Columns]:
        built = library()
        decode = Evt2Decoder() if built is None else NativeEvt2Decoder(built)
        for words in record_blocks(path, start, "<u4", count):
            yield decode(words)

    return Source("evt2", columns, header_size(header), header, "640x480 or 1280x720", expected_events=count)


class Evt2Decoder:
    """Decodes words block by block; what holds beyond a block's end is kept for the next."""

    def __init__(self) -> None:
        self._unwrap = Unwrapper(28, _TOLERANCE)
        self._high: int | None = None

    def __call__(self, words_N: NDArray[np.uint32]) -> Columns:
        """The events of `words_N`: t int64, x and y uint16, p uint8."""
        kind_N = (words_N >> 28).astype(np.uint8)
        is_event_N = kind_N < 2
        at_high_H = np.flatnonzero(kind_N == TIME_HIGH)
        high_H = self._unwrap(words_N[at_high_H] & 0x0FFFFFFF)
        event_E = words_N[is_event_N]
        # Events are numbered in order: those between two upper times are a run of numbers.
        number_N = running_count(is_event_N)
        first_H = number_N[at_high_H]
        unknown = 0
        if self._high is None:
            unknown = int(first_H[0]) if len(first_H) else len(event_E)
            event_E = event_E[unknown:]
            first_H = first_H - unknown
        bounds = np.concatenate([[0], first_H, [len(event_E)]])
        base = np.concatenate([[self._high or 0], high_H]) << LOW_BITS
        t_E = np.repeat(base, np.diff(bounds))
        t_E += (event_E >> 22) & 0x3F
        if len(high_H):
            self._high = int(high_H[-1])
        return Columns(
            t_E,
            (event_E >> 11).astype(np.uint16) & np.uint16(0x7FF),
            event_E.astype(np.uint16) & np.uint16(0x7FF),
            (event_E >> 28).astype(np.uint8),
        )


def write_evt2(path: Path, chunks: Iterable[Events], size: tuple[int, int]) -> None:
    """Write `chunks` of a sensor of `size` (width, height); times are kept modulo 2^34 microseconds (4.8 hours).

    Raises InputError: the sensor has more than 2048 pixels a side. OutputError.
    """
    check_addressable("EVT2", size)
    last = -1
    with atomic_write(path) as file:
        file.write(evt_header(2, size))
        for events in chunks:
            high_E = events.t >> LOW_BITS
            is_new_E = np.diff(high_E, prepend=last) != 0
            word_E = (events.t & 0x3F).astype(np.uint32) << 22 | events.x.astype(np.uint32) << 11
            word_E |= events.y.astype(np.uint32) | events.p.astype(np.uint32) << 28
            at_E = np.arange(len(events)) + running_count(is_new_E)
            words_N = np.empty(len(events) + int(is_new_E.sum()), "<u4")
            words_N[at_E] = word_E
            words_N[at_E[is_new_E] - 1] = (high_E[is_new_E] & 0x0FFFFFFF).astype(np.uint32) | TIME_HIGH << 28
            file.write(words_N.data)
            if len(events):
                last = int(high_E[-1])
