"""A window at once, with the released code's thinning: which events go on is counted from the window's end.

This looks ahead, so no stream can do it; it is here for weights that were trained so, and for comparisons.

Legend: N events, G cells of the grid, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.inputs import EventBatch
from multiway_event_vision.ssla_det.pooling import merge_ties, pool
from multiway_event_vision.ssla_det.spaces import Place
from multiway_event_vision.ssla_det.state import StreamState
from multiway_event_vision.ssla_det.state_update import Weights, place_of, run_level
from multiway_event_vision.ssla_det.temporal_dropout import keep_from_end


def end_anchored(
    config: SslaDetConfig, weights: Weights, batch: EventBatch, state: StreamState
) -> tuple[Tensor, Tensor]:
    """(grid_GD, the last surviving feature of each cell; bool [G], cells that had an event).

    `state` gives the states before the window (zeros) and is not changed.
    """
    place, x_NC, t_N = place_of(batch), batch.x_NC, batch.t_N
    for level in range(config.num_levels):
        if level > 0:
            place = pool(place)
            if config.merge_ties:
                x_NC, t_N, index = merge_ties(x_NC, t_N, place)
                place = place[index]
            keep = keep_from_end(place.cell_N, config.thinning).nonzero().squeeze(1)
            x_NC, t_N, place = x_NC[keep], t_N[keep], place[keep]
        x_NC, _ = run_level(weights[level], x_NC, place, state.hidden[level])
    return last_of_cells(x_NC, place, batch.streams)


def last_of_cells(x_NC: Tensor, place: Place, streams: int) -> tuple[Tensor, Tensor]:
    """(x_GC of each cell's last event, else zeros; bool [G], cells with an event). Differentiable."""
    cells = streams * place.height * place.width
    index = torch.arange(len(x_NC), device=x_NC.device)
    last_G = torch.full((cells,), -1, dtype=torch.int64, device=x_NC.device)
    last_G.scatter_reduce_(0, place.cell_N, index, "amax")
    touched_G = last_G >= 0
    grid_GC = x_NC.new_zeros(cells, x_NC.shape[1])
    return grid_GC.index_copy(0, touched_G.nonzero().squeeze(1), x_NC[last_G[touched_G]]), touched_G
