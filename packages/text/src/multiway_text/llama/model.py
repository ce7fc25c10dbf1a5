"""LLaMA (arXiv 2302.13971, section 2.2): RMSNorm before each part, rotary positions, SwiGLU, grouped queries.

    x + attention(norm(x));  x + down(silu(gate(x')) * up(x')) with x' = norm(x)

Shape suffixes: B batch, T new tokens, E hidden size.
"""

from __future__ import annotations

from multiway_blocks.attention import Attention
from multiway_blocks.gated_decoder import gated_layer
from multiway_blocks.position import Rotary
from multiway_blocks.transformer import PreNorm

from multiway_text.causal_lm import CausalLM
from multiway_text.llama.config import LlamaConfig


def _layer(config: LlamaConfig) -> PreNorm:
    attention = Attention(
        config.hidden_size,
        config.num_heads,
        head_dim=config.head_dim,
        num_kv_heads=config.num_kv_heads,
        rotary=Rotary(config.head_dim, theta=config.rope_theta),
    )
    return gated_layer(config.hidden_size, config.inner_size, attention, eps=config.norm_eps)


class Llama(CausalLM):
    """The whole network."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config, (_layer(config) for _ in range(config.num_layers)))
        self.config = config
