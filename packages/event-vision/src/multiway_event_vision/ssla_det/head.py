"""The YOLOX head on one scale, pointwise: a grid cell's prediction depends on that cell's feature alone.

Therefore one new event changes one prediction, and cells that never had an event share one constant.

Legend: B streams, D features, H, W the grid; or any shape with the same number of axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

_PRIOR = 0.01
"""Share of cells that hold an object, as classes and objectness start."""


@dataclass(frozen=True)
class HeadOutputs:
    """Raw predictions."""

    classes: Tensor
    """(B, num_classes, H, W) logits."""
    boxes: Tensor
    """(B, 4, H, W): offset of the centre in cells, logarithm of width and height in cells."""
    objectness: Tensor
    """(B, 1, H, W) logits."""


class Branch(nn.Module):
    """1x1 convolution, batch norm, SiLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        return silu(self.norm(self.convolution(x_BDHW)))


class YoloxHead(nn.Module):
    """Class branch; box branch, which objectness shares."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.class_branch = Branch(width)
        self.box_branch = Branch(width)
        self.classes = nn.Conv2d(width, num_classes, 1)
        self.boxes = nn.Conv2d(width, 4, 1)
        self.objectness = nn.Conv2d(width, 1, 1)
        for layer in (self.classes, self.objectness):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, x_BDHW: Tensor) -> HeadOutputs:
        box_BDHW = self.box_branch(x_BDHW)
        return HeadOutputs(
            self.classes(self.class_branch(x_BDHW)), self.boxes(box_BDHW), self.objectness(box_BDHW)
        )

    def at_cells(self, x_MD: Tensor) -> HeadOutputs:
        """Predictions of M cells alone, shapes (1, ..., 1, M)."""
        if len(x_MD) == 0:  # convolutions refuse to have nothing to do
            return HeadOutputs(
                *(x_MD.new_empty(1, d, 1, 0) for d in (self.classes.out_channels, 4, 1)),
            )
        return self(x_MD.t()[None, :, None, :])


def centres(rows: int, columns: int, stride: int, device: torch.device | str = "cpu") -> Tensor:
    """(rows · columns, 2), x and y of the cells' centres in pixels."""
    y, x = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
    )
    return (torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride
