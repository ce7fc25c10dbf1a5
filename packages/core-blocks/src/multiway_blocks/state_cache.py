"""A decode loop's cache for layers whose past has a constant size: retention, sliding windows."""

from __future__ import annotations

from typing import Any

import torch
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import LongTensor, Tensor


class StateCache(StaticKVCache):
    """A state for some layers, keys and values for others, for the same decode loop.

    A state is a named tuple of tensors (batch, ...), None before the first token. It cannot forget its last tokens, so
    neither `truncate` nor `invalidate` is possible: no speculative decoding.

    Args:
        num_states: layers with a state.
        num_kv_layers, num_heads, head_dim: of the keys and values, if there are any.
        like: dtype and device of the keys and values.
    """

    def __init__(
        self,
        num_states: int,
        batch_size: int,
        max_length: int,
        like: Tensor,
        *,
        num_kv_layers: int = 0,
        num_heads: int = 1,
        head_dim: int = 1,
    ) -> None:
        super().__init__(
            num_kv_layers, batch_size, num_heads, head_dim, max_length, dtype=like.dtype, device=like.device
        )
        self.states: list[Any] = [None] * num_states
        self._dtype = like.dtype if num_kv_layers else torch.float32

    @property
    def num_layers(self) -> int:
        return max(len(self._keys), len(self.states))

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def num_bytes(self) -> int:
        """Of the filled slots and the states, as they are now."""
        rows = (filled[: self.batch_size, :, : self.length] for filled in (*self._keys, *self._values))
        slots = sum(row.numel() * row.element_size() for row in rows)
        return slots + sum(part.nbytes for state in self.states if state is not None for part in state)

    def select(self, rows: LongTensor | Tensor) -> None:
        """Make row i what row ``rows[i]`` was."""
        super().select(rows)
        self.states = self._rows_of(self.states, rows)

    def copy_from(self, other: StaticKVCache, rows: LongTensor | Tensor) -> None:
        """Fill this empty cache: row i gets what ``other``'s row ``rows[i]`` has."""
        if not isinstance(other, StateCache):
            raise TypeError(f"states come from a StateCache, not from a {type(other).__name__}")
        super().copy_from(other, rows)
        self.states = self._rows_of(other.states, rows)

    def _rows_of(self, states: list[Any], rows: Tensor) -> list[Any]:
        index = rows.to(self.device, torch.long)
        return [
            None if state is None else type(state)(*(part.index_select(0, index) for part in state))
            for state in states
        ]

    def truncate(self, length: int) -> None:
        """Only to what it holds already, or to nothing."""
        if length not in (0, self.length):
            raise InputError("a state cannot forget its last tokens: decode without drafts")
        super().truncate(length)
        if length == 0:
            self.states = [None] * len(self.states)

    def invalidate(self, mask_BT: Tensor) -> None:
        """Only nothing."""
        if bool(mask_BT.any()):
            raise InputError("a state cannot forget its last tokens: decode without drafts")
