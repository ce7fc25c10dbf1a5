"""Multi-head and grouped-query attention over ``scaled_dot_product_attention``, with a key-value cache.

Shape suffixes: B batch, T queries, S keys, H query heads, K key-value heads, D head dim, E hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.kernels import dispatch
from multiway_blocks.kernels.decode_attention import cpu as decode_attention
from multiway_blocks.linear import Linear
from multiway_blocks.position import Rotary
from multiway_blocks.transformer.context import Context, Contextual, apply

# A mask is a bool tensor that broadcasts to (B, H, T, S), True where a query may look at a key.


def padding_mask(valid_BS: Tensor) -> Tensor:
    """Every query sees the valid keys: (B, S) bool -> (B, 1, 1, S)."""
    return valid_BS[:, None, None, :]


def causal_mask(num_queries: int, num_keys: int, device: torch.device | str = "cpu") -> Tensor:
    """Query ``t`` sees keys up to its own place, the queries being the last of the keys: (1, 1, T, S)."""
    query = torch.arange(num_keys - num_queries, num_keys, device=device)[:, None]
    return (torch.arange(num_keys, device=device)[None, :] <= query)[None, None]


def attend(
    query_BHTD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """``softmax(q k^T / sqrt(D) + mask) v``: (B, H, T, D).

    ``causal``: without a mask, the queries are the last of the keys and see those up to their own place.
    ``mask``: bool (True = may look) or an additive float mask, broadcastable to (B, H, T, S). Fewer key-value heads
    than query heads (K divides H) is grouped-query attention: query head ``h`` uses key head ``h // (H / K)``.
    ``dropout``: share of the softmax's weights that is set to 0, the others growing accordingly.
    """
    T, S = query_BHTD.shape[2], key_BKSD.shape[2]
    fused = query_BHTD.device.type != "cpu" or not (torch.is_grad_enabled() and query_BHTD.requires_grad)
    if causal and (T != S or not fused):
        # One query sees all; fused attention knows squares only.
        mask, causal = None if T == 1 else causal_mask(T, S, query_BHTD.device), False
    if not fused:
        return _attend_plainly(query_BHTD, key_BKSD, value_BKSD, mask, dropout)
    if dropout == 0.0 and T == 1 and _suits_decode_attention(query_BHTD, key_BKSD, value_BKSD, mask):
        visible_BS = None if mask is None else mask[:, 0, 0].expand(len(query_BHTD), -1)
        scale = query_BHTD.shape[-1] ** -0.5
        return decode_attention.forward(query_BHTD[:, :, 0], key_BKSD, value_BKSD, visible_BS, scale)[
            :, :, None
        ]
    groups = query_BHTD.shape[1] // key_BKSD.shape[1]
    if groups > 1 and mask is not None and mask.shape[1] == 1 and query_BHTD.device.type != "cpu":
        return _attend_in_groups(query_BHTD, key_BKSD, value_BKSD, mask, dropout)
    return nn.functional.scaled_dot_product_attention(
        query_BHTD,
        key_BKSD,
        value_BKSD,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal and T > 1,
        enable_gqa=groups > 1,
    )


def _suits_decode_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether a decoding step on a CPU may take our kernel: ordinary tensors, no gradients, a mask of whole keys."""
    if query.device.type != "cpu" or dispatch.USE_REFERENCE or torch.compiler.is_compiling():
        return False
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        return False
    if not type(query) is type(key) is type(value) is Tensor or not query.dtype == key.dtype == value.dtype:
        return False
    if mask is not None and (mask.dtype != torch.bool or mask.ndim != 4 or mask.shape[1:3] != (1, 1)):
        return False
    return query.shape[-1] == value.shape[-1] and decode_attention.supports(query.dtype)


def _attend_in_groups(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_B1TS: Tensor, dropout: float
) -> Tensor:
    # On GPUs no fused form takes grouped queries and a mask: all scores would be written. The queries of a group become
    # further queries of its key head.
    T, groups = query_BHTD.shape[2], query_BHTD.shape[1] // key_BKSD.shape[1]
    mask_B1NS = mask_B1TS.expand(-1, -1, T, -1).repeat(1, 1, groups, 1)
    query_BKND = query_BHTD.unflatten(1, (-1, groups)).flatten(2, 3)
    mixed_BKND = nn.functional.scaled_dot_product_attention(
        query_BKND, key_BKSD, value_BKSD, attn_mask=mask_B1NS, dropout_p=dropout
    )
    return mixed_BKND.unflatten(2, (groups, T)).flatten(1, 2)


def _attend_plainly(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    # The same formula as two matrix products: on a CPU the backward pass of the fused form takes several times longer.
    groups = query_BHTD.shape[1] // key_BKSD.shape[1]
    if groups > 1:
        key_BKSD = key_BKSD.repeat_interleave(groups, dim=1)
        value_BKSD = value_BKSD.repeat_interleave(groups, dim=1)
    scores_BHTS = (query_BHTD * query_BHTD.shape[-1] ** -0.5) @ key_BKSD.transpose(-1, -2)
    if mask is not None and mask.dtype == torch.bool:
        scores_BHTS = scores_BHTS.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores_BHTS = scores_BHTS + mask
    precision = torch.promote_types(scores_BHTS.dtype, torch.float32)
    weights_BHTS = scores_BHTS.softmax(dim=-1, dtype=precision).to(value_BKSD.dtype)
    if dropout:
        weights_BHTS = nn.functional.dropout(weights_BHTS, dropout)
    return weights_BHTS @ value_BKSD


NO_CONTEXT = Context()


class Attention(Contextual):
    """Multi-head self-attention with separate projections, each of which may be a `ModalityExperts` (BEiT-3).

    Args:
        hidden_size: width E of queries, keys' sequence and output.
        num_heads: query heads H.
        head_dim: width D of one head; E / H by default (the published vision tower has H * D != E in general).
        num_kv_heads: key-value heads K; H by default.
        bias: whether the four projections have one.
        rotary: rotates queries and keys by their positions when given (`Rotary`, `XPos`).
        sub_norm: whether a LayerNorm stands before the output projection (Magneto, Wang et al. 2022, section 2).
        eps: of that norm.
        dropout: of the softmax's weights while training.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        head_dim: int | None = None,
        num_kv_heads: int | None = None,
        bias: bool = False,
        rotary: Rotary | None = None,
        sub_norm: bool = False,
        eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if head_dim is None:
            if hidden_size % num_heads:
                raise ValueError(f"hidden_size {hidden_size} is not divisible by num_heads {num_heads}")
            head_dim = hidden_size // num_heads
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads or num_heads
        if num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {num_heads} is not divisible by num_kv_heads {self.num_kv_heads}")
        self.head_dim = head_dim
        self.dropout = dropout
        self.query = Linear(hidden_size, num_heads * head_dim, bias=bias)
        self.key = Linear(hidden_size, self.num_kv_heads * head_dim, bias=bias)
        self.value = Linear(hidden_size, self.num_kv_heads * head_dim, bias=bias)
        self.norm = nn.LayerNorm(num_heads * head_dim, eps=eps) if sub_norm else nn.Identity()
        self.output = Linear(num_heads * head_dim, hidden_size, bias=bias)
        self.rotary = rotary

    def forward(self, x_BTE: Tensor, context: Context = NO_CONTEXT, layer: int = 0) -> Tensor:
        """New tokens (B, T, E) behind what ``context.cache`` holds of this layer, which takes theirs: (B, T, E).

        ``context.mask`` covers the cached keys as well. ``context.positions_BT`` are needed only with rotary.
        """
        query_BHTD = self._heads(apply(self.query, x_BTE, context, layer), self.num_heads)
        key_BKSD, value_BKSD = self.keys_and_values(x_BTE, context, layer)
        if self.rotary is not None:
            for_queries, for_keys = context.rotations(self.rotary)
            query_BHTD = self.rotary.rotate(query_BHTD, for_queries)
            key_BKSD = self.rotary.rotate(key_BKSD, for_keys)
        if context.cache is not None:
            key_BKSD, value_BKSD = context.cache.update(layer, key_BKSD, value_BKSD)
        dropout = self.dropout if self.training else 0.0
        mixed_BHTD = attend(
            query_BHTD, key_BKSD, value_BKSD, context.mask, causal=context.causal, dropout=dropout
        )
        return self.finish(mixed_BHTD, context, layer)

    def keys_and_values(self, x_BSE: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor]:
        """What (B, S, E) is seen by: (B, K, S, D) each, not rotated."""
        parts = (apply(part, x_BSE, context, layer) for part in (self.key, self.value))
        key_BKSD, value_BKSD = (self._heads(part, self.num_kv_heads) for part in parts)
        return key_BKSD, value_BKSD

    def finish(self, mixed_BHTD: Tensor, context: Context, layer: int) -> Tensor:
        """Inner norm and output projection of every head's mixture: (B, T, E)."""
        normed_BTE = apply(self.norm, mixed_BHTD.transpose(1, 2).flatten(2), context, layer)
        return apply(self.output, normed_BTE, context, layer)

    def _heads(self, x_BTE: Tensor, heads: int) -> Tensor:
        return x_BTE.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)


class CrossAttention(Attention):
    """Attention from tokens to ``context.memory_BME``, under ``context.memory_mask``; no positions, no cache."""

    def forward(self, x_BTE: Tensor, context: Context = NO_CONTEXT, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        if context.memory_BME is None:
            raise ValueError("cross-attention needs context.memory_BME")
        query_BHTD = self._heads(apply(self.query, x_BTE, context, layer), self.num_heads)
        key_BKMD, value_BKMD = self.keys_and_values(context.memory_BME, context, layer)
        dropout = self.dropout if self.training else 0.0
        mixed_BHTD = attend(query_BHTD, key_BKMD, value_BKMD, context.memory_mask, dropout=dropout)
        return self.finish(mixed_BHTD, context, layer)
