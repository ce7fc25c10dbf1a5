"""Entities of a news: its own (local view) and their neighbours in the graph of entities (the candidate's view).

Shape suffixes: N news, T entities, E hidden size.
"""

from __future__ import annotations

from torch import Tensor, nn

from multiway_recsys.glocim.attention import AttentionBlock
from multiway_recsys.glocim.config import GlocimConfig

LEAK = 0.2


class LocalEntityEncoder(nn.Module):
    """A news' own entities (GLORY section 3.2): no mask, so missing entities take part as zeros."""

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        self.block = AttentionBlock(
            config.entity_dim,
            config.entity_dim // config.entity_head_dim,
            config.entity_head_dim,
            config.attention_hidden_size,
            dropout=config.dropout,
        )
        self.projection = nn.Linear(config.entity_dim, config.hidden_size)
        self.activation = nn.LeakyReLU(LEAK)

    def forward(self, entities_NT: Tensor, table: nn.Embedding) -> Tensor:
        """(N, T) int64, 0 = none -> (N, E)."""
        return self.activation(self.projection(self.block(table(entities_NT))))


class GlobalEntityEncoder(nn.Module):
    """Neighbours of a candidate's entities, masked."""

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        self.block = AttentionBlock(
            config.entity_dim,
            config.num_heads,
            config.head_dim,
            config.attention_hidden_size,
            dropout=config.dropout,
        )

    def forward(self, entities_NT: Tensor, table: nn.Embedding) -> Tensor:
        """(N, T) int64, 0 = none -> (N, E)."""
        return self.block(table(entities_NT), entities_NT > 0)
