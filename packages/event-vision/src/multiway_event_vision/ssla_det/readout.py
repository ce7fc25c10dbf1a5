"""Readout by peeking: each grid cell's newest event is propagated to the grid without changing any state.

Thinning holds most events back, so the features on the grid are old. An event that waits before level l goes through
the layers of levels l and up as the next one of the spaces that it touches. Peeks do not see each other.

Legend: M chains, G cells of the grid, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.spaces import Place
from multiway_event_vision.ssla_det.state import StreamState
from multiway_event_vision.ssla_det.state_update import Weights


def peek(config: SslaDetConfig, weights: Weights, state: StreamState) -> Tensor:
    """grid_GD, the feature of each cell's newest event as of now; zeros where no event ever was."""
    cell_M, x_MD = peek_cells(config, weights, state, torch.ones_like(state.depth_G, dtype=torch.bool))
    return state.waiting[-1].index_copy(0, cell_M, x_MD)


def peek_cells(
    config: SslaDetConfig, weights: Weights, state: StreamState, among_G: Tensor
) -> tuple[Tensor, Tensor]:
    """(cell_M, x_MD) of those cells among the given (bool) whose newest event is not on the grid by itself."""
    levels = config.num_levels
    rows, columns = config.frame(levels - 1, state.height, state.width)
    cell_M = state.depth_G.new_empty(0)
    x_MC = state.waiting[0].new_empty(0, config.widths[0] if levels > 1 else config.widths[-1])
    for level in range(1, levels):
        start = ((state.depth_G == level) & among_G).nonzero().squeeze(1)
        cell_M = torch.cat([cell_M, start])
        x_MC = torch.cat([x_MC, state.waiting[level - 1][start]])
        pixel = state.pixel_G[cell_M]
        y, x = pixel // state.width, pixel % state.width
        frame = config.frame(level, state.height, state.width)
        place = Place(cell_M // (rows * columns), y >> level, x >> level, *frame)
        for layer, hidden in zip(weights[level], state.hidden[level], strict=True):
            x_MC = layer.peek(x_MC, place, hidden)
    return cell_M, x_MC


def stale_cells(config: SslaDetConfig, state: StreamState) -> Tensor:
    """bool [G], cells whose feature may have changed since the last read-out (one stream).

    An event changes its own cell, and at each level above 0 that processed it the states that events up to twice the
    radius of a space away look at: cells so far away peek anew. All others would find what they found before.
    """
    rows, columns = config.frame(config.num_levels - 1, state.height, state.width)
    fresh_11HW = state.fresh_G.view(1, 1, rows, columns)
    stale_11HW = fresh_11HW > 0
    for level in range(1, config.num_levels):
        reach = -(-(config.space_size - 1) // 2 ** (config.num_levels - 1 - level))
        updated = (fresh_11HW > level).float()
        stale_11HW = stale_11HW | (max_pool2d(updated, 2 * reach + 1, 1, reach) > 0)
    return stale_11HW.flatten()
