"""Causal decoder of the LLaMA family as Qwen2 has it: RMSNorm, grouped queries with biased projections, rotary, SwiGLU.

Qwen2 (arXiv 2407.10671, section 2.2.1).

Shape suffixes: B batch, T new tokens, S all tokens so far, E hidden size.
"""

from __future__ import annotations

from multiway_core.generation import StaticKVCache
from torch import Tensor, nn

from multiway_blocks.attention import Attention
from multiway_blocks.causal import causal_visibility, token_positions
from multiway_blocks.feedforward import GatedFeedForward
from multiway_blocks.linear import Linear
from multiway_blocks.norm import RMSNorm
from multiway_blocks.position import Rotary


class GatedDecoderLayer(nn.Module):
    """``x + attention(norm(x))``, then ``x + SwiGLU(norm(x))``."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        inner_size: int,
        *,
        head_dim: int,
        rotary: Rotary,
        eps: float,
    ) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(hidden_size, eps)
        self.attention = Attention(
            hidden_size, num_heads, head_dim=head_dim, num_kv_heads=num_kv_heads, bias=True, rotary=rotary
        )
        # Only the projections to queries, keys and values have a bias.
        self.attention.output = Linear(num_heads * head_dim, hidden_size, bias=False)
        self.feedforward_norm = RMSNorm(hidden_size, eps)
        self.feedforward = GatedFeedForward(hidden_size, inner_size, activation=nn.functional.silu)

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


class GatedDecoder(nn.Module):
    """A stack of layers and the final norm; embeddings and the output matrix belong to the caller.

    ``final_norm=False`` leaves the norm out: the lower part of a decoder that is split in two.
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
        rope_theta: float = 10000.0,
        eps: float = 1e-6,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim or hidden_size // num_heads
        rotary = Rotary(self.head_dim, theta=rope_theta)
        self.layers = nn.ModuleList(
            GatedDecoderLayer(
                hidden_size,
                num_heads,
                num_kv_heads,
                inner_size,
                head_dim=self.head_dim,
                rotary=rotary,
                eps=eps,
            )
            for _ in range(num_layers)
        )
        self.norm = RMSNorm(hidden_size, eps) if final_norm else nn.Identity()

    def new_cache(self, batch_size: int, max_length: int, like: Tensor) -> StaticKVCache:
        """An empty cache of this decoder's sizes with the dtype and device of ``like``."""
        return StaticKVCache(
            len(self.layers),
            batch_size,
            self.num_kv_heads,
            self.head_dim,
            max_length,
            dtype=like.dtype,
            device=like.device,
        )

    def forward(self, x_BTE: Tensor, valid_BT: Tensor, cache: StaticKVCache | None = None) -> Tensor:
        """Run new token vectors (B, T, E) behind what the cache holds: (B, T, E).

        ``valid`` (B, T) bool is False at padding, which no token looks at and which takes no position; rows may be
        padded on either side. The cache, if any, takes the new keys and values and is advanced.
        """
        mask = causal_visibility(valid_BT, cache)
        positions_BT = token_positions(valid_BT, cache)
        for index, layer in enumerate(self.layers):
            x_BTE = layer(x_BTE, mask, positions_BT, cache, index)
        if cache is not None:
            cache.advance(valid_BT)
        return self.norm(x_BTE)
