"""Ids to row numbers for a whole column of a file at once.

A dictionary look-up for each of the seventy ids of an impression is what a log reader spends its time on. Here the
bytes of an id are read as 64-bit words straight from the file's buffer, and looked up in an open-addressing table by
array operations. Every hit is compared word by word, so that two ids are never taken for one another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PADDING = 8  # bytes that a buffer must have behind its last id
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio (Knuth, Fibonacci hashing)
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(9)], np.uint64)
_UNKNOWN = -1


class IdTable:
    """Row numbers of `ids`; "" is nobody's id. Of equal ids the first counts."""

    def __init__(self, ids: Sequence[str]) -> None:
        encoded = [name.encode("utf-8") for name in ids]
        self._lengths = np.array([len(name) for name in encoded], np.int64).reshape(-1)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])[:-1].astype(np.int64)
        self._buffer = padded(b"".join(encoded))
        self._longest = int(self._lengths.max(initial=0))
        self._bits = max(4, (4 * len(encoded)).bit_length())
        self._words = _words(self._buffer)
        keys = self._keys(self._words, self._starts, self._lengths)
        self._first_words = (
            self._words[self._starts] & _MASKS[np.minimum(self._lengths, 8)] if len(encoded) else keys
        )
        self._table = np.full(1 << self._bits, _UNKNOWN, np.int32)
        pending = np.flatnonzero(self._lengths > 0)
        slots = self._slots(keys[pending])
        while pending.size:
            free = self._table[slots] == _UNKNOWN
            # Of several ids for one free slot the first in `ids` takes it (np.unique gives first occurrences).
            taken, first = np.unique(slots[free], return_index=True)
            self._table[taken] = pending[free][first]
            placed = self._table[slots] == pending
            pending, slots = pending[~placed], (slots[~placed] + 1) & (len(self._table) - 1)

    def rows(
        self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """Row numbers of the ids at `buffer[starts:starts + lengths]`, -1 where there is no such id.

        `buffer` must have `PADDING` bytes behind the last id (see `padded`).
        """
        result = np.full(len(starts), _UNKNOWN, np.int32)
        if not len(starts) or not len(self._lengths):
            return result
        words = _words(buffer)
        first_words = words[starts] & _MASKS[np.minimum(lengths, 8)]
        slots = self._slots(self._keys(words, starts, lengths, first_words))
        rows: NDArray[np.int64] | None = None  # places of those that are still looked for; None: all
        while True:
            found = self._table[slots]
            same = (self._first_words[found] == first_words) & (self._lengths[found] == lengths)
            same &= found != _UNKNOWN
            if self._longest > 8:
                same &= self._rest_is_same(words, starts, lengths, found, same)
            if rows is None:
                result = np.where(same, found, np.int32(_UNKNOWN))
            else:
                result[rows[same]] = found[same]
            pending = np.flatnonzero(~same & (found != _UNKNOWN))  # another id lies here: try the next slot
            if not pending.size:
                return result
            rows = pending if rows is None else rows[pending]
            slots = (slots[pending] + 1) & (len(self._table) - 1)
            starts, lengths, first_words = starts[pending], lengths[pending], first_words[pending]

    def _slots(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return ((keys * _MULTIPLIER) >> np.uint64(64 - self._bits)).astype(np.int64)

    def _keys(
        self,
        words: NDArray[np.uint64],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        first_words: NDArray[np.uint64] | None = None,
    ) -> NDArray[np.uint64]:
        if first_words is None:
            first_words = words[starts] & _MASKS[np.minimum(lengths, 8)]
        if self._longest <= 8:
            return first_words
        keys = first_words.copy()
        for at in range(8, self._longest, 8):
            longer = np.flatnonzero(lengths > at)
            if not longer.size:
                break
            word = words[starts[longer] + at] & _MASKS[np.minimum(lengths[longer] - at, 8)]
            keys[longer] = (keys[longer] * _MULTIPLIER) ^ word
        return keys

    def _rest_is_same(
        self,
        words: NDArray[np.uint64],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        found: NDArray[np.int32],
        candidates: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        same = candidates.copy()
        for at in range(8, self._longest, 8):
            longer = np.flatnonzero(same & (lengths > at))
            if not longer.size:
                break
            mask = _MASKS[np.minimum(lengths[longer] - at, 8)]
            ours = self._words[self._starts[found[longer]] + at]
            same[longer] = ((words[starts[longer] + at] ^ ours) & mask) == 0
        return same


def padded(data: bytes) -> NDArray[np.uint8]:
    """`data` as an array with `PADDING` zero bytes behind it."""
    return np.frombuffer(data + bytes(PADDING), np.uint8)


def _words(buffer: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The 64-bit little-endian word that begins at each byte, without copying."""
    return np.ndarray((len(buffer) - PADDING + 1,), "<u8", buffer=buffer.data, strides=(1,))
