"""User encoder: a reader's clicks as one vector.

Shape suffixes: B readers, H clicks (oldest first, right-aligned), E hidden size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from multiway_recsys.glocim.attention import AdditivePooling, SelfAttention
from multiway_recsys.glocim.config import GlocimConfig

HALF_LIFE = 12  # clicks


class AttentionUserEncoder(nn.Module):
    """Self-attention among the clicks, additive pooling (NRMS, GLORY, GLoCIM); without the first it is NAML's."""

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.residual = config.residual
        self.attention = (
            SelfAttention(width, config.num_heads, config.head_dim) if config.user == "attention" else None
        )
        if self.residual and self.attention is not None:
            self.attention.start_silent()
        places = config.history_length if config.place_scores else 0
        self.pooling = AdditivePooling(width, config.attention_hidden_size, places=places)
        scores = self.pooling.places
        if scores is not None and not scores.is_meta:
            # At first a click counts half as much as one that is 12 clicks newer.
            age = torch.arange(places - 1, -1, -1.0)
            scores.data = -0.1 * math.log(2) / HALF_LIFE * age

    def _mixed(self, clicks_BHE: Tensor, mask_BH: Tensor) -> Tensor:
        if self.attention is None:
            return clicks_BHE
        mixed_BHE = self.attention(clicks_BHE, mask_BH)
        return clicks_BHE + mixed_BHE if self.residual else mixed_BHE

    def weights(self, clicks_BHE: Tensor, mask_BH: Tensor) -> Tensor:
        """How much each click counts: (B, H)."""
        return self.pooling.weights(self._mixed(clicks_BHE, mask_BH), mask_BH)

    def forward(self, clicks_BHE: Tensor, mask_BH: Tensor, users_B: Tensor | None = None) -> Tensor:
        """(B, H, E) -> (B, E); zero for a reader without clicks."""
        return self.pooling(self._mixed(clicks_BHE, mask_BH), mask_BH)


class LsturUserEncoder(nn.Module):
    """Long- and short-term: a vector of the reader, and a GRU over the clicks.

    "lstur-ini": the reader's vector is the GRU's first state; "lstur-con": both are put side by side. Reader 0 is the
    unknown one; in training a reader is replaced by it with probability ``user_dropout``.
    """

    def __init__(self, config: GlocimConfig) -> None:
        super().__init__()
        self.starts_gru = config.user == "lstur-ini"
        width = config.hidden_size if self.starts_gru else config.hidden_size // 2
        self.users = nn.Embedding(max(1, config.num_users), width)
        nn.init.normal_(self.users.weight, std=0.1)
        self.gru = nn.GRU(
            config.hidden_size, config.hidden_size if self.starts_gru else config.hidden_size - width
        )
        self.user_dropout = config.user_dropout

    def forward(self, clicks_BHE: Tensor, mask_BH: Tensor, users_B: Tensor | None = None) -> Tensor:
        """(B, H, E) -> (B, E)."""
        batch, length = mask_BH.shape
        if users_B is None:
            users_B = torch.zeros(batch, dtype=torch.long, device=mask_BH.device)
        users_B = torch.where(users_B < self.users.num_embeddings, users_B, 0)
        if self.training and self.user_dropout:
            kept_B = torch.rand(batch, device=users_B.device) >= self.user_dropout
            users_B = users_B * kept_B
        user_BE = self.users(users_B)
        counts_B = mask_BH.sum(dim=1)
        # Moved to the left: the GRU must start at the first click, not in the padding before it.
        places_BH = torch.arange(length, device=mask_BH.device) + (length - counts_B)[:, None]
        moved_BHE = clicks_BHE.gather(
            1, places_BH.clamp(max=length - 1)[..., None].expand(-1, -1, clicks_BHE.shape[2])
        )
        first = user_BE[None].contiguous() if self.starts_gru else None
        states_HBE, _ = self.gru(moved_BHE.transpose(0, 1), first)
        last_BE = states_HBE[(counts_B - 1).clamp(min=0), torch.arange(batch, device=mask_BH.device)]
        has_clicks_B1 = (counts_B > 0)[:, None]
        if self.starts_gru:
            return torch.where(has_clicks_B1, last_BE, user_BE)
        return torch.cat([user_BE, last_BE * has_clicks_B1], dim=1)
