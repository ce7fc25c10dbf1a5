"""Prophesee RAW, EVT 3.0: 16-bit little-endian words that say only what changed; bits 15-12 tell what a word is.

0: y. 2: one event with its x (bits 10-0) and polarity (11). 3: polarity and x that vectors start from. 4, 5: a vector,
the events of the next 12 or 8 pixels as a mask; the start then moves on by as many. 6: lower, 8: upper 12 bits of the
time (16.8 seconds, then anew). All else is passed over, and so are events before the first upper time or the first y.

Words in force at an event are found without a loop: events are numbered, and every word that sets something holds for a
run of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.formats.native_decoders import NativeEvt3Decoder, library
from multiway_event_vision.formats.prophesee_header import header_size
from multiway_event_vision.formats.source import Columns, Options, Source, record_blocks, whole_records
from multiway_event_vision.formats.unwrap import Unwrapper, running_count

ADDRESS_Y, ADDRESS_X, VECTOR_BASE, VECTOR_12, VECTOR_8, TIME_LOW, TIME_HIGH = 0, 2, 3, 4, 5, 6, 8
TIME_BITS = 12
_TOLERANCE = 256  # of 4096 us: steps back by more than a second are a new round of the 16.8 seconds
_MAX_X = 0xFFFF  # a vector's start moves on beyond any sensor where no new one is set
_ADVANCE = np.zeros(16, np.int64)
_ADVANCE[[VECTOR_12, VECTOR_8]] = 12, 8


def open_evt3(path: Path, header: dict[str, str], start: int, options: Options) -> Source:
    """A recording whose words begin at byte `start`. Raises DataError: a cut word."""
    count = whole_records(path, start, 2, options.repair)

    def columns() -> Iterator[Columns]:
        built = library()
        decode = Evt3Decoder() if built is None else NativeEvt3Decoder(built)
        for words in record_blocks(path, start, "<u2", count):
            yield decode(words)

    return Source("evt3", columns, header_size(header), header, "1280x720", expected_events=count)


class Evt3Decoder:
    """Decodes words block by block; what holds beyond a block's end is kept for the next."""

    def __init__(self) -> None:
        self._unwrap = Unwrapper(TIME_BITS, _TOLERANCE)
        self._high: int | None = None
        self._low = 0
        self._y: int | None = None
        self._base = 0
        self._base_p = 0

    def __call__(self, words_N: NDArray[np.uint16]) -> Columns:
        """The events of `words_N`: t int64, x and y uint16, p uint8."""
        kind_N = (words_N >> 12).astype(np.uint8)
        is_event_N = (kind_N == ADDRESS_X) | (kind_N == VECTOR_12) | (kind_N == VECTOR_8)
        at_E = np.flatnonzero(is_event_N)
        number_N = running_count(is_event_N)
        word_E, kind_E = words_N[at_E], kind_N[at_E]

        t_E, without_time = self._times(words_N, kind_N, number_N, len(at_E))
        y_E, without_y = self._rows(words_N, kind_N, number_N, len(at_E))
        x_E, p_E = word_E & np.uint16(0x7FF), (word_E >> np.uint16(11)).astype(np.uint8) & np.uint8(1)
        skip = max(without_time, without_y)
        if (kind_E == ADDRESS_X).all() and not (kind_N == VECTOR_BASE).any():
            return Columns(t_E[skip:], x_E[skip:], y_E[skip:], p_E[skip:])

        x_E, p_E = self._vector_starts(words_N, kind_N, x_E.astype(np.int64), p_E, at_E)
        mask_E = np.where(kind_E == VECTOR_8, word_E & np.uint16(0xFF), word_E & np.uint16(0xFFF))
        mask_E[kind_E == ADDRESS_X] = 1
        mask_E[:skip] = 0
        bits = np.unpackbits(mask_E.astype("<u2").view(np.uint8), bitorder="little")  # 16 a word
        at_bit = np.flatnonzero(bits.view(bool))
        of_word = at_bit >> 4
        x_of_bit = np.minimum(x_E[of_word] + (at_bit & 15), _MAX_X).astype(np.uint16)
        return Columns(t_E[of_word], x_of_bit, y_E[of_word], p_E[of_word])

    def _times(
        self, words_N: NDArray, kind_N: NDArray, number_N: NDArray, events: int
    ) -> tuple[NDArray, int]:
        """(int64 time of each event word, how many come before the first upper time)."""
        at_T = np.flatnonzero((kind_N == TIME_LOW) | (kind_N == TIME_HIGH))
        value_T = (words_N[at_T] & np.uint16(0xFFF)).astype(np.int64)
        is_high_T = kind_N[at_T] == TIME_HIGH
        high_H = self._unwrap(value_T[is_high_T])
        first_high = int(number_N[at_T[is_high_T][0]]) if len(high_H) else events
        without_time = first_high if self._high is None else 0

        known_high = self._high if self._high is not None else (int(high_H[0]) if len(high_H) else 0)
        high_T = np.concatenate([[known_high], high_H])[running_count(is_high_T)]
        # A new upper time restarts the lower one, which some cameras send only with the next event.
        is_carry_T = is_high_T & (np.diff(high_T, prepend=known_high) != 0)
        sets_low_T = ~is_high_T | is_carry_T
        lows = np.concatenate([[self._low], np.where(is_high_T, 0, value_T)[sets_low_T]])
        low_T = np.repeat(lows, np.diff(np.flatnonzero(np.concatenate([[True], sets_low_T, [True]]))))[1:]

        t_T = np.concatenate([[(known_high << TIME_BITS) + self._low], (high_T << TIME_BITS) + low_T])
        t_E = np.repeat(t_T, np.diff(np.concatenate([[0], number_N[at_T], [events]])))
        if len(high_H):
            self._high = int(high_H[-1])
        self._low = int(low_T[-1]) if len(at_T) else self._low
        return t_E, without_time

    def _rows(self, words_N: NDArray, kind_N: NDArray, number_N: NDArray, events: int) -> tuple[NDArray, int]:
        """(uint16 y of each event word, how many come before the first y)."""
        at_Y = np.flatnonzero(kind_N == ADDRESS_Y)
        y_Y = np.empty(len(at_Y) + 1, np.uint16)
        y_Y[0] = self._y or 0
        y_Y[1:] = words_N[at_Y] & np.uint16(0x7FF)
        first_Y = number_N[at_Y]
        y_E = np.repeat(y_Y, np.diff(np.concatenate([[0], first_Y, [events]])))
        without_y = 0
        if self._y is None:
            without_y = int(first_Y[0]) if len(first_Y) else events
        if len(at_Y):
            self._y = int(y_Y[-1])
        return y_E, without_y

    def _vector_starts(
        self, words_N: NDArray, kind_N: NDArray, x_E: NDArray, p_E: NDArray, at_E: NDArray
    ) -> tuple[NDArray, NDArray]:
        """x and polarity of event words, those of vectors filled in: the pixel of their lowest bit."""
        at_V = np.flatnonzero((kind_N >= VECTOR_BASE) & (kind_N <= VECTOR_8))
        kind_V, word_V = kind_N[at_V], words_N[at_V]
        advance_V = _ADVANCE[kind_V]
        passed_V = np.cumsum(advance_V) - advance_V  # pixels passed since the block began
        is_base_V = kind_V == VECTOR_BASE
        base_B = (word_V[is_base_V] & np.uint16(0x7FF)).astype(np.int64) - passed_V[is_base_V]
        base_of_V = running_count(is_base_V)
        x_V = np.concatenate([[self._base], base_B])[base_of_V] + passed_V
        p_B = (word_V[is_base_V] >> np.uint16(11)).astype(np.uint8) & np.uint8(1)
        p_V = np.concatenate([np.array([self._base_p], np.uint8), p_B])[base_of_V]
        is_vector_E = kind_N[at_E] != ADDRESS_X
        x_E[is_vector_E] = x_V[~is_base_V]
        p_E[is_vector_E] = p_V[~is_base_V]
        if len(at_V):
            self._base = int(x_V[-1] + advance_V[-1])
            self._base_p = int(p_V[-1])
        return x_E, p_E
