"""Candidate encoder: the views of a candidate news as one vector, the same for every reader."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_recsys.glocim.attention import AdditivePooling
from multiway_recsys.glocim.entity_encoder import LEAK


class CandidateEncoder(nn.Module):
    """Additive attention over local, entity and neighbour-entity view, then linear and LeakyReLU (GLORY section 3.5).

    ``projected=False``: the local view alone is the candidate (NRMS, NAML, LSTUR).
    """

    def __init__(
        self,
        hidden_size: int,
        attention_hidden_size: int,
        *,
        num_views: int,
        projected: bool,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.pooling = AdditivePooling(hidden_size, attention_hidden_size) if num_views > 1 else None
        self.projection = nn.Linear(hidden_size, hidden_size) if projected else None
        self.activation = nn.LeakyReLU(LEAK)
        if residual and self.projection is not None:
            nn.init.zeros_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Views of (N, E) -> (N, E)."""
        pooled = views[0] if self.pooling is None else self.pooling(torch.stack(views, dim=1))
        if self.projection is None:
            return pooled
        projected = self.activation(self.projection(pooled))
        # LayerNorms leave vectors of length sqrt(E): without the factor the first scores would be saturated.
        return (pooled + projected) * pooled.shape[-1] ** -0.5 if self.residual else projected
