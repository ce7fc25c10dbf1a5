"""State update: events run through the levels and move the states, one in four of a cell on to the next level.

A level's result for an event depends on events before it only, so computing level after level over a whole slice
gives what computing event after event gives, as long as spaces see the same order and thinning looks backwards only.

Legend: N events of the slice, M those that reached a level, G cells of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.inputs import EventBatch
from multiway_event_vision.ssla_det.layer import LayerWeights
from multiway_event_vision.ssla_det.pooling import pool
from multiway_event_vision.ssla_det.spaces import Place
from multiway_event_vision.ssla_det.state import StreamState
from multiway_event_vision.ssla_det.temporal_dropout import keep_from_start

Weights = Sequence[Sequence[LayerWeights]]
"""``[level][layer]``; a baseline's layers have the same `advance`, `peek` and `frozen`."""


FeatureHook = Callable[[int, Tensor, Tensor], None]
"""Called with a level, the features x_MD behind it and the numbers int64 [M] of the events that they belong to."""


def place_of(batch: EventBatch) -> Place:
    """Where the events are at level 0."""
    y_N, x_N = batch.pixel_N // batch.width, batch.pixel_N % batch.width
    return Place(batch.stream_N, y_N, x_N, batch.height, batch.width)


def run_level(
    layers: Sequence[LayerWeights],
    x_MC: Tensor,
    place: Place,
    hidden: Sequence[Tensor],
    *,
    in_place: bool = False,
    fused: bool = True,
) -> tuple[Tensor, list[Tensor]]:
    """(result, new states) of the layers of one level."""
    moved = []
    for layer, state in zip(layers, hidden, strict=True):
        x_MC, state = layer.advance(x_MC, place, state, in_place=in_place, fused=fused)
        moved.append(state)
    return x_MC, moved


def update_state(
    config: SslaDetConfig,
    weights: Weights,
    batch: EventBatch,
    state: StreamState,
    *,
    in_place: bool = False,
    fused: bool = True,
    hook: FeatureHook | None = None,
) -> tuple[StreamState, Tensor]:
    """(the state behind these events, how many levels processed each event: int64 [N]).

    The given state is not changed (its `previous` belongs to `event_features`), so gradients flow through all of it;
    `in_place` takes over the memory of its `hidden`, which is most of it. `fused=False` keeps to PyTorch.
    `hook` is called with each level's features.
    """
    if len(batch.t_N) == 0:
        return state, batch.t_N
    place = place_of(batch)
    index_M = torch.arange(len(batch.t_N), device=batch.t_N.device)
    depth_N = torch.ones_like(index_M)
    newest_N, cell_N = _newest(config, place)
    x_MC = batch.x_NC
    hidden, counts, waiting = list(state.hidden), list(state.counts), list(state.waiting)
    for level in range(config.num_levels):
        if level > 0:
            place = pool(place)
            keep_M, counts[level - 1] = keep_from_start(place.cell_N, config.thinning, counts[level - 1])
            stays = ~keep_M & newest_N[index_M]
            waiting[level - 1] = waiting[level - 1].index_copy(0, cell_N[index_M[stays]], x_MC[stays])
            keep = keep_M.nonzero().squeeze(1)
            x_MC, place, index_M = x_MC[keep], place[keep], index_M[keep]
            depth_N[index_M] += 1
        x_MC, hidden[level] = run_level(
            weights[level], x_MC, place, state.hidden[level], in_place=in_place, fused=fused
        )
        if hook is not None:
            hook(level, x_MC, index_M)
    arrived = newest_N[index_M]
    waiting[-1] = waiting[-1].index_copy(0, cell_N[index_M[arrived]], x_MC[arrived])

    newest = newest_N.nonzero().squeeze(1)
    cells = cell_N[newest]
    moved = StreamState(
        streams=state.streams,
        height=state.height,
        width=state.width,
        previous=state.previous,
        hidden=hidden,
        counts=counts,
        waiting=waiting,
        depth_G=state.depth_G.index_copy(0, cells, depth_N[newest]),
        pixel_G=state.pixel_G.index_copy(0, cells, batch.pixel_N[newest]),
        time_G=state.time_G.index_copy(0, cells, batch.t_N[newest]),
        fresh_G=state.fresh_G.scatter_reduce(0, cell_N, depth_N, "amax"),
    )
    return moved, depth_N


def _newest(config: SslaDetConfig, place: Place) -> tuple[Tensor, Tensor]:
    """Of each event: whether it is the last of its grid cell in this slice, and its grid cell."""
    for _ in range(config.num_levels - 1):
        place = pool(place)
    cell = place.cell_N
    index = torch.arange(len(cell), device=cell.device)
    cells = place.height * place.width * (int(place.stream_N.max()) + 1)
    last = torch.full((cells,), -1, dtype=torch.int64, device=cell.device)
    last.scatter_reduce_(0, cell, index, "amax")
    return last[cell] == index, cell
