"""Attention with TorchScale's names and its dictionaries for decoding token by token.

Shape suffixes: B batch, T new tokens, S all tokens so far, H heads, D head dim, E hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from multiway_blocks.attention import Attention, CrossAttention, padding_mask
from multiway_blocks.position import RelativeBias, XPos
from multiway_blocks.torchscale.multiway import wrap
from multiway_blocks.torchscale.names import Published


class XPOS(Published, XPos, names={"decay": "scale"}):
    """xPos whose table is part of the checkpoint."""

    def __init__(self, head_dim: int, scale_base: int = 512) -> None:
        super().__init__(head_dim, scale_base=scale_base)
        table = self._buffers.pop("decay")
        self.register_buffer("scale", table)


class RelativePositionBias(Published, RelativeBias, names={"bias": "relative_attention_bias"}):
    """T5's bias, one table for all layers."""


_NAMES = {
    "key": "k_proj",
    "value": "v_proj",
    "query": "q_proj",
    "output": "out_proj",
    "norm": "inner_attn_ln",
    "rotary": "xpos",
}


class MultiheadAttention(Published, Attention, names=_NAMES):
    """Self-attention, with xPos and with sub-LN's inner norm where the flags say so."""

    def __init__(self, args: Any, embed_dim: int, num_heads: int) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            bias=True,
            rotary=XPOS(embed_dim // num_heads, args.xpos_scale_base) if args.xpos_rel_pos else None,
            sub_norm=args.subln,
            eps=args.layernorm_eps,
            dropout=args.attention_dropout,
        )
        _double(args, self)


class EncoderAttention(Published, CrossAttention, names=_NAMES):
    """Cross-attention: neither xPos nor an inner norm."""

    def __init__(self, args: Any, embed_dim: int, num_heads: int) -> None:
        super().__init__(embed_dim, num_heads, bias=True, dropout=args.attention_dropout)
        _double(args, self)


def _double(args: Any, attention: Attention) -> None:
    for name in ("k_proj", "v_proj", "q_proj", "out_proj", "inner_attn_ln"):
        part = getattr(attention, name)
        if not isinstance(part, nn.Identity):
            setattr(attention, name, wrap(args, part))


class IncrementalState:
    """``incremental_state`` as a cache: ``{layer: {"prev_key": ..., "prev_value": ...}}``, (B, H, S, D) each."""

    def __init__(self, state: dict[Any, Any]) -> None:
        self.state = state

    @property
    def length(self) -> int:
        """Tokens that the first layer has seen."""
        return self.of_layer(0)["prev_key"].shape[2] if "prev_key" in self.state.get(0, {}) else 0

    def of_layer(self, layer: int) -> dict[str, Tensor]:
        """A layer's dictionary, made when missing."""
        return self.state.setdefault(layer, {})

    def update(self, layer: int, key_BHTD: Tensor, value_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Take new keys and values, give all."""
        state = self.of_layer(layer)
        for name, new in (("prev_key", key_BHTD), ("prev_value", value_BHTD)):
            state[name] = torch.cat([state[name], new], dim=2) if name in state else new
        return state["prev_key"], state["prev_value"]


def attention_mask(
    visible: Tensor | None, padding_BS: Tensor | None, bias: Tensor | None, dtype: torch.dtype
) -> Tensor | None:
    """What :func:`multiway_blocks.attention.attend` takes: a bool mask, an additive one, or None.

    ``visible`` (T, S) bool; ``padding`` (B, S) True where a key is none; ``bias`` (..., T, S) float. A query that may
    look nowhere, which is padding itself, looks everywhere.
    """
    if padding_BS is not None:
        seen = padding_mask(~padding_BS.bool())
        visible = seen if visible is None else visible & seen
    if visible is not None:
        visible = visible | ~visible.any(dim=-1, keepdim=True)
    if bias is None:
        return visible
    bias = bias.to(dtype)
    return bias if visible is None else bias.masked_fill(~visible, float("-inf"))


def relative_bias(args: Any, heads: int) -> RelativePositionBias | None:
    """The bias that ``rel_pos_buckets`` and ``max_rel_pos`` ask for."""
    if args.rel_pos_buckets > 0 and args.max_rel_pos > 0:
        return RelativePositionBias(heads, num_buckets=args.rel_pos_buckets, max_distance=args.max_rel_pos)
    return None
