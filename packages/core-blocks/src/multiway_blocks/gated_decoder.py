"""Causal decoders of the LLaMA family: RMSNorm before each part, rotary positions, SwiGLU, grouped queries.

LLaMA (arXiv 2302.13971, section 2.2); Qwen2 (arXiv 2407.10671, section 2.2.1) has biases in three projections.
"""

from __future__ import annotations

from torch import nn

from multiway_blocks.attention import Attention
from multiway_blocks.causal import CausalStack
from multiway_blocks.feedforward import GatedFeedForward
from multiway_blocks.linear import Linear
from multiway_blocks.norm import RMSNorm
from multiway_blocks.position import Rotary
from multiway_blocks.transformer import PreNorm


def gated_layer(hidden_size: int, inner_size: int, attention: nn.Module, *, eps: float) -> PreNorm:
    """A pre-norm block with RMSNorms around ``attention`` and a SwiGLU."""
    feedforward = GatedFeedForward(hidden_size, inner_size, activation=nn.functional.silu)
    return PreNorm(attention, feedforward, (RMSNorm(hidden_size, eps), RMSNorm(hidden_size, eps)))


class GatedDecoder(CausalStack):
    """A stack of layers and the final norm; embeddings and the output matrix belong to the caller.

    ``bias``: of the projections to queries, keys and values (Qwen2). ``final_norm=False`` leaves the norm out: the
    lower part of a decoder that is split in two.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int,
        inner_size: int,
        head_dim: int | None = None,
        bias: bool = True,
        rope_theta: float = 10000.0,
        eps: float = 1e-6,
        final_norm: bool = True,
    ) -> None:
        head_dim = head_dim or hidden_size // num_heads
        rotary = Rotary(head_dim, theta=rope_theta)

        def layer() -> PreNorm:
            attention = Attention(
                hidden_size, num_heads, head_dim=head_dim, num_kv_heads=num_kv_heads, bias=bias, rotary=rotary
            )
            attention.output = Linear(num_heads * head_dim, hidden_size, bias=False)
            return gated_layer(hidden_size, inner_size, attention, eps=eps)

        layers = (layer() for _ in range(num_layers))
        super().__init__(layers, RMSNorm(hidden_size, eps) if final_norm else None)
