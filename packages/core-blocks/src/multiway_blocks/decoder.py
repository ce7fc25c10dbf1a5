"""Causal Transformer decoders with LayerNorms and biases: pre-norm, Magneto's sub-LN, and DeepNorm."""

from __future__ import annotations

import torch
from torch import nn

from multiway_blocks.attention import Attention
from multiway_blocks.causal import CausalStack
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.position import Rotary
from multiway_blocks.residual_scaling import deep_norm_decoder
from multiway_blocks.transformer import PostNorm, PreNorm


def decoder_layer(
    hidden_size: int,
    num_heads: int,
    inner_size: int,
    *,
    sub_norm: bool = False,
    attention_sub_norm: bool = False,
    rotary: Rotary | None = None,
    residual_scale: float | None = None,
    eps: float = 1e-5,
    dropout: float = 0.0,
) -> PreNorm | PostNorm:
    """A pre-norm block with LayerNorms and biases, with sub-LN inside either part or both.

    With ``residual_scale`` a post-norm block instead, whose residual path is multiplied by it.
    """
    parts = (
        Attention(hidden_size, num_heads, bias=True, rotary=rotary, sub_norm=attention_sub_norm, eps=eps),
        FeedForward(hidden_size, inner_size, sub_norm=sub_norm, eps=eps, dropout=dropout),
        (nn.LayerNorm(hidden_size, eps=eps), nn.LayerNorm(hidden_size, eps=eps)),
    )
    if residual_scale is None:
        return PreNorm(*parts, dropout=dropout)
    return PostNorm(*parts, dropout=dropout, alpha=residual_scale)


class Decoder(CausalStack):
    """A stack of causal layers and the final norm; embeddings and the output matrix belong to the caller.

    ``sub_norm`` puts Magneto's extra norm into the feed-forward networks, ``attention_sub_norm`` into the attention:
    Magneto itself has both, KOSMOS-2.5 the first only. ``rotary`` (`Rotary` or `XPos`) tells places apart in the
    attention; without it positions belong to the vectors that the caller gives. ``deep_norm`` makes the layers
    post-norm with the residual path multiplied by ``(2 num_layers)^(1/4)`` (DeepNet, Wang et al. 2022, table 1), which
    asks for an initialisation of its own (:func:`scale_for_deep_norm`); there is no final norm then.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        inner_size: int,
        sub_norm: bool = False,
        attention_sub_norm: bool = False,
        rotary: Rotary | None = None,
        deep_norm: bool = False,
        block: int | None = None,
        eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        layers = (
            decoder_layer(
                hidden_size,
                num_heads,
                inner_size,
                sub_norm=sub_norm,
                attention_sub_norm=attention_sub_norm,
                rotary=rotary,
                residual_scale=deep_norm_decoder(num_layers).alpha if deep_norm else None,
                eps=eps,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )
        super().__init__(layers, None if deep_norm else nn.LayerNorm(hidden_size, eps=eps))
        self.uses_positions = rotary is not None
        self.block = block


@torch.no_grad()
def scale_for_deep_norm(decoder: Decoder) -> None:
    """Divide values, outputs and feed-forward networks by ``(8 layers)^(1/4)`` behind their initialisation."""
    divisor = deep_norm_decoder(len(decoder.layers)).divisor
    for name, parameter in decoder.layers.named_parameters():
        if ".norm." not in name and name.split(".")[-2] in {"value", "output", "up", "down"}:
            parameter.div_(divisor)
