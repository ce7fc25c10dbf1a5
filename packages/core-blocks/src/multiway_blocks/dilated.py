"""Dilated attention (LongNet, Ding et al. 2023, section 2.2): cost grows linearly with the number of tokens.

Shape suffixes: B batch, H heads, T new tokens, D head dim, E hidden size.
"""

from __future__ import annotations

import math

import torch
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor

from multiway_blocks.attention import NO_CONTEXT, Attention
from multiway_blocks.dilated_branches import Branches, HeadOffset
from multiway_blocks.dilated_decoding import SegmentCache, attend_cached, attend_padded, attend_streamed
from multiway_blocks.dilated_parallel import attend_parallel
from multiway_blocks.dilated_pattern import DilatedPattern, dilated_attend
from multiway_blocks.position import Rotary
from multiway_blocks.transformer import Context

__all__ = ["DilatedAttention", "SegmentCache", "dilated_attend"]


class DilatedAttention(Attention):
    """Self-attention whose heads look at every R-th token of segments; see :func:`dilated_attend`.

    Names and shapes of the weights are those of :class:`multiway_blocks.attention.Attention`. Positions (rotary, xPos)
    are those of the whole sequence, counted from a row's first real token, as its segments are. They are handed to the
    rotation modulo ``period``, a multiple of all segment lengths: tokens on two sides of a multiple never meet, and
    products depend on differences alone.

    Where ``sequence_group`` is set to a process group, every process calls the layer with its own part of the tokens
    (:func:`multiway_blocks.dilated_parallel.attend_parallel`).
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        branches: Branches,
        *,
        causal: bool = False,
        head_offset: HeadOffset = "block",
        grad_through_mix: bool = False,
        mask_padding: bool = True,
        bias: bool = True,
        rotary: Rotary | None = None,
        sub_norm: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(hidden_size, num_heads, bias=bias, rotary=rotary, sub_norm=sub_norm, eps=eps)
        self.pattern = DilatedPattern(tuple(branches), causal, head_offset, grad_through_mix, mask_padding)
        self.period = math.lcm(*(length for length, _ in branches))
        self.sequence_group: torch.distributed.ProcessGroup | None = None

    def forward(self, x_BTE: Tensor, context: Context = NO_CONTEXT, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E), behind what ``context.cache`` holds: a `StaticKVCache` or a `SegmentCache`.

        ``context.mask``: :func:`multiway_blocks.attention.padding_mask` of the new tokens, or None where all are real;
        who sees whom is this layer's own matter. With a cache the layer must be causal, and there are no gradients.
        """
        cache, positions_BT = context.cache, context.positions_BT
        query_BHTD = self._heads(self.query(x_BTE), self.num_heads)
        key_BHTD, value_BHTD = self.keys_and_values(x_BTE, context, layer)
        if self.rotary is not None:
            if positions_BT is None:
                first = self._first_position(cache, x_BTE.shape[1])
                positions_BT = torch.arange(first, first + x_BTE.shape[1], device=x_BTE.device)[None]
            positions_BT = positions_BT % self.period
            for_queries, for_keys = self.rotary.rotations(positions_BT)
            query_BHTD = self.rotary.rotate(query_BHTD, for_queries)
            key_BHTD = self.rotary.rotate(key_BHTD, for_keys)
        mixed_BHTD = self._mixed(query_BHTD, key_BHTD, value_BHTD, context.mask, cache, layer)
        return self.finish(mixed_BHTD, context, layer)

    def _first_position(self, cache: StaticKVCache | SegmentCache | None, tokens: int) -> int:
        if self.sequence_group is not None:
            return torch.distributed.get_rank(self.sequence_group) * tokens
        return 0 if cache is None else cache.length

    def _mixed(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        cache: StaticKVCache | SegmentCache | None,
        layer: int,
    ) -> Tensor:
        """Every head's mixture of values, (B, H, T, D)."""
        if self.sequence_group is not None:
            if mask is not None or cache is not None:
                raise InputError("dilated attention over several processes takes neither padding nor a cache")
            return attend_parallel(query, key, value, self.pattern, self.sequence_group)
        if cache is None:
            if mask is None:
                return self.pattern.attend(query, key, value)
            return attend_padded(query, key, value, mask, self.pattern)
        if not self.pattern.causal:
            raise InputError("dilated attention with a cache must be causal")
        if isinstance(cache, SegmentCache):
            if mask is not None:
                raise InputError("a cache of segments takes no padding")
            return attend_streamed(query, key, value, self.pattern, cache, layer)
        return attend_cached(query, key, value, mask, self.pattern, cache, layer)
