"""Peek: at a read-out, each grid cell's newest event is taken to the grid, and no state keeps a trace of it.

Thinning holds most events back, so committed features are old. An event that waits before level l goes through the
layers of levels l and up as the next one of the spaces that it touches. Peeks do not see each other.

Legend: M chains, G cells of the grid, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_event_vision.ssla_det.commit import Weights
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.spaces import Place, touched
from multiway_event_vision.ssla_det.state import StreamState


def peek(config: SslaDetConfig, weights: Weights, state: StreamState) -> Tensor:
    """grid_GD, the feature of each cell's newest event as of now; zeros where no event ever was."""
    grid_GD = state.waiting[-1]
    levels = config.num_levels
    rows, columns = config.frame(levels - 1, state.height, state.width)
    cell_M = torch.empty(0, dtype=torch.int64, device=grid_GD.device)
    x_MC = state.waiting[0].new_empty(0, state.waiting[0].shape[1])
    for level in range(1, levels):
        start = (state.depth_G == level).nonzero().squeeze(1)
        cell_M = torch.cat([cell_M, start])
        x_MC = torch.cat([x_MC, state.waiting[level - 1][start]])
        pixel = state.pixel_G[cell_M]
        y, x = pixel // state.width, pixel % state.width
        frame = config.frame(level, state.height, state.width)
        place = Place(cell_M // (rows * columns), y >> level, x >> level, *frame)
        for layer, hidden in zip(weights[level], state.hidden[level], strict=True):
            x_MC = layer.peek(x_MC, touched(place, layer.size), hidden)
    return grid_GD.index_copy(0, cell_M, x_MC)
