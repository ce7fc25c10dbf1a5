"""EVT 3.0 by machine code: `evt3.cpp`, built on first use. Without a compiler the decoder of `evt3.py` runs."""

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
    built = None if USE_REFERENCE else native.load(Path(__file__).with_name("evt3.cpp"))
    if built is not None:
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        built.evt3_most_events.argtypes, built.evt3_most_events.restype = (pointer, count), count
        built.evt3_decode.argtypes, built.evt3_decode.restype = (pointer, count, *[pointer] * 5), count
    return built


class NativeEvt3Decoder:
    """As `Evt3Decoder`."""

    def __init__(self, built: ctypes.CDLL) -> None:
        self._library = built
        # The slots as `evt3.cpp` names them: upper time, its last value, rounds, lower time, y, base, its polarity.
        self._state = np.array([_UNKNOWN, _UNKNOWN, 0, 0, _UNKNOWN, 0, 0], np.int64)

    def __call__(self, words_N: NDArray[np.uint16]) -> Columns:
        """The events of `words_N`: t int64, x and y uint16, p uint8."""
        words_N = np.ascontiguousarray(words_N, np.uint16)
        most = self._library.evt3_most_events(words_N.ctypes.data, len(words_N))
        columns = Columns(
            *(np.empty(most + 1, dtype) for dtype in (np.int64, np.uint16, np.uint16, np.uint8))
        )
        pointers = [column.ctypes.data for column in columns]
        events = self._library.evt3_decode(
            words_N.ctypes.data, len(words_N), self._state.ctypes.data, *pointers
        )
        return Columns(*(column[:events] for column in columns))
