"""Popularity and recency in a candidate's score, for every model alike, so that no graph is praised for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_recsys.glocim.statistics import NUM_STATISTICS


class PopularityTerm(nn.Module):
    """A small learned function of earlier clicks, showings and age (see `ClickStatistics.at`); starts as zero."""

    def __init__(self, hidden_size: int = 16) -> None:
        super().__init__()
        self.hidden = nn.Linear(NUM_STATISTICS, hidden_size)
        self.output = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, statistics: Tensor) -> Tensor:
        """(..., 5) -> (...)."""
        return self.output(torch.tanh(self.hidden(statistics.to(self.hidden.weight.dtype)))).squeeze(-1)
