"""Click encoder: the views of a clicked news as one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_recsys.glocim.attention import AdditivePooling


class ClickEncoder(nn.Module):
    """Additive attention over the views: local, fused global, entities (GLORY section 3.4)."""

    def __init__(self, hidden_size: int, attention_hidden_size: int, *, places: int = 0) -> None:
        super().__init__()
        self.pooling = AdditivePooling(hidden_size, attention_hidden_size, places=places)

    def weights(self, views: list[Tensor]) -> Tensor:
        """How much each view counts: views of (..., E) -> (..., views)."""
        stacked = torch.stack(views, dim=-2)
        return self.pooling.weights(stacked.flatten(0, -3)).unflatten(0, stacked.shape[:-2])

    def forward(self, views: list[Tensor]) -> Tensor:
        """Views of (..., E) -> (..., E). A single view is the click."""
        if len(views) == 1:
            return views[0]
        stacked = torch.stack(views, dim=-2)
        return self.pooling(stacked.flatten(0, -3)).unflatten(0, stacked.shape[:-2])
