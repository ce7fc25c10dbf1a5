"""DAT, EVT 2.0 and EVT 3.0 by machine code: `decoders.cpp`, built on first use. Without a compiler numpy does it."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from multiway_blocks.kernels import native
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from numpy.typing import NDArray

from multiway_event_vision.formats.source import Columns

_UNKNOWN = -1


@functools.cache
def library() -> ctypes.CDLL | None:
    """The built library; None where it cannot be built or `MULTIWAY_KERNELS=reference` forbids it."""
    built = None if USE_REFERENCE else native.load(Path(__file__).with_name("decoders.cpp"))
    if built is not None:
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        built.evt2_decode.argtypes, built.evt2_decode.restype = (pointer, count, *[pointer] * 5), count
        built.evt3_max_events.argtypes, built.evt3_max_events.restype = (pointer, count), count
        built.evt3_decode.argtypes, built.evt3_decode.restype = (pointer, count, *[pointer] * 5), count
        built.dat_decode.argtypes, built.dat_decode.restype = (pointer, count, *[pointer] * 4), count
    return built


def decode_dat(built: ctypes.CDLL, words_N2: NDArray[np.uint32]) -> tuple[Columns, bool]:
    """(the events of records of DAT version 2, whether their times, not unwrapped yet, never go back)."""
    columns = _columns(len(words_N2))
    is_sorted = built.dat_decode(
        words_N2.ctypes.data, len(words_N2), *(column.ctypes.data for column in columns)
    )
    return columns, bool(is_sorted)


def _columns(length: int) -> Columns:
    return Columns(*(np.empty(length, dtype) for dtype in (np.int64, np.uint16, np.uint16, np.uint8)))


class NativeEvt2Decoder:
    """As `Evt2Decoder`."""

    def __init__(self, built: ctypes.CDLL) -> None:
        self._library = built
        self._state = np.array([_UNKNOWN, _UNKNOWN, 0], np.int64)  # upper time, its last value, rounds

    def __call__(self, words_N: NDArray[np.uint32]) -> Columns:
        """The events of `words_N`: t int64, x and y uint16, p uint8."""
        words_N = np.ascontiguousarray(words_N, np.uint32)
        columns = _columns(len(words_N) + 1)
        events = self._library.evt2_decode(
            words_N.ctypes.data,
            len(words_N),
            self._state.ctypes.data,
            *(column.ctypes.data for column in columns),
        )
        return Columns(*(column[:events] for column in columns))


class NativeEvt3Decoder:
    """As `Evt3Decoder`."""

    def __init__(self, built: ctypes.CDLL) -> None:
        self._library = built
        # The slots as `decoders.cpp` names them: upper time, its last value, rounds, lower time, y, base, its polarity.
        self._state = np.array([_UNKNOWN, _UNKNOWN, 0, 0, _UNKNOWN, 0, 0], np.int64)

    def __call__(self, words_N: NDArray[np.uint16]) -> Columns:
        """The events of `words_N`: t int64, x and y uint16, p uint8."""
        words_N = np.ascontiguousarray(words_N, np.uint16)
        max_events = self._library.evt3_max_events(words_N.ctypes.data, len(words_N))
        columns = _columns(max_events + 1)
        pointers = [column.ctypes.data for column in columns]
        events = self._library.evt3_decode(
            words_N.ctypes.data, len(words_N), self._state.ctypes.data, *pointers
        )
        return Columns(*(column[:events] for column in columns))
