"""Stochastic depth."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """While training, a sub-layer is left out for some rows (Huang et al. 2016, "Deep Networks with Stochastic Depth").

    ``rate``: the share of rows whose result becomes 0; the others grow by ``1 / (1 - rate)``, so the mean stays.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate must be from 0 to below 1, not {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.rate == 0.0:
            return x
        kept = 1.0 - self.rate
        return x * (x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(kept) / kept)
