"""What YOCO keeps of the past: one key-value cache for all layers, and a state of constant size a self-decoder layer.

Shape suffixes: B batch, S slots, H heads, D head dim.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from multiway_blocks.retention import RetentionState
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import LongTensor, Tensor

from multiway_text.yoco.config import YocoConfig


class WindowState(NamedTuple):
    """The last tokens that a window may still need: rotated keys, values, and which of them are real."""

    key_BHSD: Tensor
    value_BHSD: Tensor
    valid_BS: Tensor


State = RetentionState | WindowState


class YocoCache(StaticKVCache):
    """A cache of one layer, and the self-decoder's states; ``states`` is None before the first token.

    States cannot be taken back: tokens cannot be forgotten again, so there is no speculative decoding with it.
    """

    def __init__(
        self, config: YocoConfig, batch_size: int, max_length: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        if max_length > config.max_positions:
            raise InputError(
                f"sequence too long: {max_length} tokens are asked for and YOCO's context has {config.max_positions};"
                " shorten the prompt or lower max_new_tokens"
            )
        super().__init__(
            1, batch_size, config.num_kv_heads, config.head_dim, max_length, dtype=dtype, device=device
        )
        self.states: list[State] | None = None

    def num_bytes(self) -> int:
        """Of the filled slots and the states, as they are now."""
        row = self._keys[0][: self.batch_size, :, : self.length]
        states = 0 if self.states is None else sum(x.nbytes for state in self.states for x in state)
        return 2 * row.numel() * row.element_size() + states

    def select(self, rows: LongTensor | Tensor) -> None:
        """Make row i what row ``rows[i]`` was."""
        super().select(rows)
        if self.states is not None:
            index = rows.to(self.device)
            self.states = [type(state)(*(x[index] for x in state)) for state in self.states]

    def copy_from(self, other: StaticKVCache, rows: LongTensor | Tensor) -> None:
        """Fill this empty cache from rows of ``other``, another one of this kind."""
        super().copy_from(other, rows)
        assert isinstance(other, YocoCache)
        if other.states is not None:
            index = rows.to(self.device)
            self.states = [type(state)(*(x[index] for x in state)) for state in other.states]

    def truncate(self, length: int) -> None:
        """Only to what it holds already, or to nothing: the states cannot be taken back."""
        if 0 < length < self.length:
            raise InputError(
                "YOCO's self-decoder cannot forget tokens: no speculative decoding, no truncated cache"
            )
        super().truncate(length)
        if length == 0:
            self.states = None

    def invalidate(self, mask_BT: Tensor) -> None:
        """Refused, as :meth:`truncate` is."""
        if bool(mask_BT.any()):
            raise InputError("YOCO's self-decoder cannot forget tokens: no speculative decoding")
