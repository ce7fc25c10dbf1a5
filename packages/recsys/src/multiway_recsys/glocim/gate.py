"""Gated fusion of neighbour interest and long-chain interest."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureGate(nn.Module):
    """v = g * n + (1 - g) * tanh(W_f [n; l] + b_f) with g = sigmoid(W_g [n; l] + b_g).

    Where there is no chain the fused interest is the neighbour interest itself. ``residual``: l + tanh(...) instead.
    """

    def __init__(self, hidden_size: int, *, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.fused = nn.Linear(2 * hidden_size, hidden_size)
        self.gate = nn.Linear(2 * hidden_size, hidden_size)
        if residual:
            nn.init.zeros_(self.fused.weight)
            nn.init.zeros_(self.fused.bias)

    def gates(self, neighbour: Tensor, chain: Tensor) -> Tensor:
        """g, (..., E): the share of the neighbour interest."""
        return torch.sigmoid(self.gate(torch.cat([neighbour, chain], dim=-1)))

    def forward(self, neighbour: Tensor, chain: Tensor, has_chain: Tensor | None = None) -> Tensor:
        """(..., E) twice, ``has_chain`` (...) bool -> (..., E)."""
        joined = torch.cat([neighbour, chain], dim=-1)
        gate = torch.sigmoid(self.gate(joined))
        other = torch.tanh(self.fused(joined))
        fused = torch.lerp(chain + other if self.residual else other, neighbour, gate)
        return fused if has_chain is None else torch.where(has_chain.unsqueeze(-1), fused, neighbour)
