"""The two kinds of attention of YOCO: over a sliding window, and over the shared keys and values.

Shape suffixes: B batch, T new tokens, S keys, H query heads, K key-value heads, D head dim, E hidden size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from multiway_blocks.attention import attend
from multiway_blocks.linear import Linear
from multiway_blocks.partial_attention import causal_attend
from multiway_blocks.retention import RetentionRotary
from multiway_blocks.transformer import Context, Contextual
from torch import Tensor


class WindowState(NamedTuple):
    """The last tokens that a window may still need: rotated keys, values, and which of them are real."""

    key_BHSD: Tensor
    value_BHSD: Tensor
    valid_BS: Tensor


_FEWEST_QUERIES = 128  # of a block of a narrow window


class WindowAttention(Contextual):
    """Causal attention over the last ``window`` tokens (section 3.1, "sliding-window attention")."""

    def __init__(self, hidden_size: int, num_heads: int, window: int, *, rotary: RetentionRotary) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.query = Linear(hidden_size, hidden_size, bias=False)
        self.key = Linear(hidden_size, hidden_size, bias=False)
        self.value = Linear(hidden_size, hidden_size, bias=False)
        self.output = Linear(hidden_size, hidden_size, bias=False)
        self.rotary = rotary

    def forward(self, x_BTE: Tensor, context: Context, layer: int) -> Tensor:
        """(B, T, E) -> (B, T, E), behind the layer's state in the cache. Padding is on the left."""
        cache, valid_BT = context.cache, context.valid_BT
        assert valid_BT is not None
        state: WindowState | None = None if cache is None else cache.states[layer]
        query_BHTD, key_BHSD, value_BHSD = (
            part(x_BTE).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        rotation, _ = context.rotations(self.rotary)
        query_BHTD = self.rotary.rotate(query_BHTD, rotation)
        key_BHSD = self.rotary.rotate(key_BHSD, rotation)
        valid_BS = valid_BT
        if state is not None:
            key_BHSD = torch.cat([state.key_BHSD, key_BHSD], dim=2)
            value_BHSD = torch.cat([state.value_BHSD, value_BHSD], dim=2)
            valid_BS = torch.cat([state.valid_BS, valid_BT], dim=1)
        tokens, total = x_BTE.shape[1], key_BHSD.shape[2]
        earlier = total - tokens
        block = max(self.window, _FEWEST_QUERIES)
        parts = []
        for start in range(0, tokens, block):
            stop = min(start + block, tokens)
            first = max(0, earlier + start - self.window + 1)
            keys = slice(first, earlier + stop)
            query_T1 = torch.arange(earlier + start, earlier + stop, device=x_BTE.device)[:, None]
            key_S = torch.arange(first, earlier + stop, device=x_BTE.device)
            near_TS = (key_S <= query_T1) & (key_S > query_T1 - self.window)
            # A padded query sees itself, since a row without any key would turn into NaN.
            mask_BTS = near_TS & (valid_BS[:, None, keys] | (key_S == query_T1))
            parts.append(
                attend(
                    query_BHTD[:, :, start:stop],
                    key_BHSD[:, :, keys],
                    value_BHSD[:, :, keys],
                    mask_BTS[:, None],
                )
            )
        mixed_BHTD = torch.cat(parts, dim=2)
        if cache is not None:
            kept = slice(max(0, total - self.window + 1), total)
            # Copies: a view would keep a whole chunk in memory.
            cache.states[layer] = WindowState(
                key_BHSD[:, :, kept].clone(), value_BHSD[:, :, kept].clone(), valid_BS[:, kept].clone()
            )
        return self.output(mixed_BHTD.transpose(1, 2).flatten(2))


class CrossAttention(Contextual):
    """Causal attention whose keys and values belong to all layers together (section 3.2)."""

    def __init__(self, hidden_size: int, num_heads: int, *, rotary: RetentionRotary) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(hidden_size, hidden_size, bias=False)
        self.output = Linear(hidden_size, hidden_size, bias=False)
        self.rotary = rotary

    def forward(self, x_BTE: Tensor, context: Context, layer: int) -> Tensor:
        """(B, T, E) -> (B, T, E), reading the keys and values (B, K, S, D) that ``context.cache`` is.

        ``context.mask`` None: no padding, every token sees all up to itself.
        """
        key_BKSD, value_BKSD = context.cache
        mask = context.mask
        query_BHTD = self.query(x_BTE).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        query_BHTD = self.rotary.rotate(query_BHTD, context.rotations(self.rotary)[0])
        if mask is None and x_BTE.shape[1] > 1:
            mixed_BHTD = causal_attend(query_BHTD, key_BKSD, value_BKSD)
        else:
            mixed_BHTD = attend(query_BHTD, key_BKSD, value_BKSD, mask)
        return self.output(mixed_BHTD.transpose(1, 2).flatten(2))
