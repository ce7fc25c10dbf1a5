"""As much of FlatBuffers as AEDAT4 needs: tables, numbers, text, and vectors of structures; nothing out of bounds.

The package `flatbuffers` is not used: it trusts every offset of a file, and Python counts a negative one from the end,
so that damaged packets would decode to wrong events without an error.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray


class Damaged(Exception):
    """An offset leads out of the buffer."""


class Table:
    """One table of a buffer: fields by number, as their schema counts them."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - self._number("<i", at)
        self._vtable_bytes = self._number("<H", self._vtable)

    @classmethod
    def root(cls, data: bytes, identifier: bytes) -> Table:
        """The root table of a buffer with a size in front. Raises Damaged: cut, or another identifier."""
        if len(data) < 12 or data[8:12] != identifier:
            raise Damaged(f"no buffer of type {identifier.decode()}")
        return cls(data, 4 + int(struct.unpack_from("<I", data, 4)[0]))

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """A field that is a number of the `struct` kind `kind`."""
        at = self._field(field)
        return default if at is None else self._number(kind, at)

    def text(self, field: int) -> str:
        """A field that is a string; empty where it is absent."""
        at, length = self._vector(field, 1)
        return self._data[at : at + length].decode("utf-8", "replace")

    def structures(self, field: int, dtype: np.dtype) -> NDArray:
        """A field that is a vector of structures; no values where it is absent."""
        at, length = self._vector(field, dtype.itemsize)
        return np.frombuffer(self._data, dtype, length, at) if length else np.zeros(0, dtype)

    def _field(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._vtable_bytes:
            return None
        offset = self._number("<H", self._vtable + slot)
        return self._at + offset if offset else None

    def _vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        at = self._field(field)
        if at is None:
            return 0, 0
        at += self._number("<I", at)
        length = self._number("<I", at)
        if at + 4 + length * item_bytes > len(self._data):
            raise Damaged(f"a vector of {length} items reaches beyond the buffer")
        return at + 4, length

    def _number(self, kind: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(kind) > len(self._data):
            raise Damaged(f"an offset of {at} leads out of {len(self._data)} bytes")
        return int(struct.unpack_from(kind, self._data, at)[0])
