"""The past of a RetNet: one state a layer, of the same size after any number of tokens."""

from __future__ import annotations

import torch
from multiway_blocks.retention import RetentionState
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import LongTensor, Tensor


class RetentionCache(StaticKVCache):
    """States in place of keys and values, for the same decode loop.

    What the loop asks of a cache (rows, lengths, ``select``, ``require``) is here as it is there. A state cannot forget
    its last tokens, so neither `truncate` nor `invalidate` is possible: no drafts.
    """

    def __init__(self, num_layers: int, batch_size: int, max_length: int, *, like: Tensor) -> None:
        super().__init__(0, batch_size, 1, 1, max_length, device=like.device)
        self.states: list[RetentionState | None] = [None] * num_layers

    @property
    def num_layers(self) -> int:
        return len(self.states)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def select(self, rows: LongTensor | Tensor) -> None:
        """Make row i what row ``rows[i]`` was."""
        index = rows.to(self.device, torch.long)
        super().select(rows)
        for layer, state in enumerate(self.states):
            if state is not None:
                self.states[layer] = RetentionState(*(part.index_select(0, index) for part in state))

    def copy_from(self, other: StaticKVCache, rows: LongTensor | Tensor) -> None:
        """Fill this empty cache: row i gets what ``other``'s row ``rows[i]`` has."""
        if not isinstance(other, RetentionCache):
            raise TypeError(f"states come from a RetentionCache, not from a {type(other).__name__}")
        super().copy_from(other, rows)
        index = rows.to(self.device, torch.long)
        for layer, state in enumerate(other.states):
            if state is not None:
                self.states[layer] = RetentionState(*(part.index_select(0, index) for part in state))

    def truncate(self, length: int) -> None:
        """Only to where it is."""
        if length != self.length:
            raise InputError("a retention state cannot forget its last tokens: decode without drafts")

    def invalidate(self, mask_BT: Tensor) -> None:
        """Only nothing."""
        if bool(mask_BT.any()):
            raise InputError("a retention state cannot forget its last tokens: decode without drafts")
