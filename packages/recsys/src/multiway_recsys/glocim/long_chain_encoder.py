"""Long-chain interest: encodes the chains of news that start at the clicked ones.

Shape suffixes: R clicked news, K chains of a news, L hops, B readers, H clicks, E hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_recsys.glocim.attention import AdditivePooling, SelfAttention
from multiway_recsys.glocim.config import GlocimConfig


class HierarchicalChainEncoder(nn.Module):
    """Ours: attention inside each chain, then over the chains of a reader.

    The published code lets all 50 x 10 chain places of a reader attend to each other, padding included, without a sign
    of the hop: 250,000 scores where this needs 5,700, and the order of a chain is invisible to it.
    """

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        width, heads, head_dim = config.hidden_size, config.num_heads, config.head_dim
        self.residual = config.residual
        self.hops = nn.Parameter(torch.empty(config.chain_length, width)) if config.hop_embedding else None
        if self.hops is not None:
            nn.init.normal_(self.hops, std=0.1)
        self.attention = SelfAttention(width, heads, head_dim)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        places = config.chain_length if config.place_scores else 0
        self.pooling = AdditivePooling(width, config.attention_hidden_size, places=places)
        self.user_attention = SelfAttention(width, heads, head_dim) if config.chain_user_level else None
        self.user_norm = nn.LayerNorm(width)
        if self.residual:
            for attention in (self.attention, self.user_attention):
                if attention is not None:
                    attention.start_silent()

    def _tokens(self, values_RKLE: Tensor, mask_RKL: Tensor) -> tuple[Tensor, Tensor]:
        x_NLE, mask_NL = values_RKLE.flatten(0, 1), mask_RKL.flatten(0, 1)
        if self.hops is not None:
            x_NLE = x_NLE + self.hops[: x_NLE.shape[1]]
        mixed_NLE = self.attention(x_NLE, mask_NL)
        return self.dropout(self.norm(x_NLE + mixed_NLE if self.residual else mixed_NLE)), mask_NL

    def news_level(self, values_RKLE: Tensor, mask_RKL: Tensor) -> Tensor:
        """The chains of each news as one vector, zero for a news without any: (R, E)."""
        tokens_NLE, mask_NL = self._tokens(values_RKLE, mask_RKL)
        chains_RKE = self.pooling(tokens_NLE, mask_NL).unflatten(0, values_RKLE.shape[:2])
        walked_RK = mask_RKL.any(dim=2).to(chains_RKE.dtype)
        return chains_RKE.sum(dim=1) / walked_RK.sum(dim=1, keepdim=True).clamp(min=1)

    def hop_weights(self, values_RKLE: Tensor, mask_RKL: Tensor) -> Tensor:
        """How much each hop counts in its chain: (R, K, L)."""
        tokens_NLE, mask_NL = self._tokens(values_RKLE, mask_RKL)
        return self.pooling.weights(tokens_NLE, mask_NL).unflatten(0, values_RKLE.shape[:2])

    def user_level(self, chains_BHE: Tensor, mask_BH: Tensor) -> Tensor:
        """Chains of a reader's clicks in each other's light: (B, H, E). ``mask``: clicks that have a chain."""
        if self.user_attention is not None:
            mixed_BHE = self.user_attention(chains_BHE, mask_BH)
            chains_BHE = chains_BHE + mixed_BHE if self.residual else mixed_BHE
        return self.user_norm(chains_BHE)


class ReleasedChainEncoder(nn.Module):
    """As published: one attention over all places of all chains of a reader, additive pooling within each chain.

    Nothing is masked, so clicks must be padded to the full history and a missing news is a zero vector.
    """

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.dropout = nn.Dropout(config.dropout)
        self.attention = SelfAttention(width, config.num_heads, config.head_dim)
        self.attention_norm = nn.LayerNorm(width)
        self.pooling = AdditivePooling(width, config.attention_hidden_size)
        self.norm = nn.LayerNorm(width)

    def forward(self, values_BHLE: Tensor) -> Tensor:
        """(B, H, L, E) -> (B, H, E)."""
        batch, clicks, hops, width = values_BHLE.shape
        mixed = self.attention(self.dropout(values_BHLE.flatten(1, 2)))
        chains = self.dropout(self.attention_norm(mixed.reshape(batch * clicks, hops, width)))
        return self.norm(self.pooling(chains)).unflatten(0, (batch, clicks))
