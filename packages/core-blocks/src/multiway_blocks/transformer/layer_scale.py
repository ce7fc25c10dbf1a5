"""LayerScale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.transformer.context import Context, Contextual, apply


class LayerScale(Contextual):
    """A mixer or feed-forward network whose result is multiplied by a learned number a channel.

    Touvron et al. 2021, "Going deeper with Image Transformers", equation 4; BEiT's ``gamma_1`` and ``gamma_2``.
    """

    def __init__(self, part: nn.Module, hidden_size: int, *, initial: float = 1e-5) -> None:
        super().__init__()
        self.part = part
        self.scale = nn.Parameter(torch.full((hidden_size,), initial))

    def forward(self, x_BTE: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        return self.scale * apply(self.part, x_BTE, context, layer)
