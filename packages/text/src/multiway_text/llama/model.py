"""LLaMA (arXiv 2302.13971, section 2.2): RMSNorm before each part, rotary positions, SwiGLU, grouped queries.

    x + attention(norm(x));  x + down(silu(gate(x')) * up(x')) with x' = norm(x)

Shape suffixes: B batch, T new tokens, E hidden size.
"""

from __future__ import annotations

from multiway_blocks.attention import Attention
from multiway_blocks.feedforward import GatedFeedForward
from multiway_blocks.norm import RMSNorm
from multiway_blocks.position import Rotary
from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_text.causal_lm import CausalLM
from multiway_text.llama.config import LlamaConfig


class Layer(nn.Module):
    """One block of the residual stream."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.attention = Attention(
            config.hidden_size,
            config.num_heads,
            head_dim=config.head_dim,
            num_kv_heads=config.num_kv_heads,
            rotary=Rotary(config.head_dim, theta=config.rope_theta),
        )
        self.feedforward_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.feedforward = GatedFeedForward(
            config.hidden_size, config.inner_size, activation=nn.functional.silu
        )

    def forward(
        self,
        x_BTE: Tensor,
        mask: Tensor | None,
        positions_BT: Tensor,
        cache: StaticKVCache | None,
        layer: int,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        x_BTE = x_BTE + self.attention(
            self.attention_norm(x_BTE), mask=mask, positions_BT=positions_BT, cache=cache, layer=layer
        )
        return x_BTE + self.feedforward(self.feedforward_norm(x_BTE))


class Llama(CausalLM):
    """The whole network."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config, (Layer(config) for _ in range(config.num_layers)))
        self.config = config
