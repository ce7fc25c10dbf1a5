"""SSLA-Det: events -> sparse features, level after level -> the grid of each cell's newest feature -> boxes.

    events (Δt, ±1)
      level 0, stride 1   layer k1, layer k3     every event
      level 1, stride 2   layer k3, layer k3     of each cell one event in four of level 0's
      level 2, stride 4   layer k3, layer k3     of each cell one in four of level 1's
      level 3, stride 8   layer k3, layer k3     of each cell one in four of level 2's
    grid of stride 8      peek: each cell's newest event through the levels that it had not reached
    head                  class, box and objectness of every cell

Legend: B streams, G cells of the grid over all streams, D width, H, W the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.detector import Detector, SslaDetOutputs
from multiway_event_vision.ssla_det.head import YoloxHead
from multiway_event_vision.ssla_det.inputs import EventBatch
from multiway_event_vision.ssla_det.layer import NORM_BIAS, SslaLayer
from multiway_event_vision.ssla_det.readout import peek, stale_cells
from multiway_event_vision.ssla_det.state import StreamState
from multiway_event_vision.ssla_det.state_update import FeatureHook, Weights, update_state
from multiway_event_vision.ssla_det.window import end_anchored


class SslaDet(Detector):
    """The network. Its parameters do not depend on the sensor's size."""

    layer: ClassVar[type[nn.Module]] = SslaLayer
    """Of (input width, width, side of a space); `baselines/` have others."""

    def __init__(self, config: SslaDetConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList(
            nn.ModuleList(self.layer(*sizes) for sizes in config.layers(level))
            for level in range(config.num_levels)
        )
        self.head = YoloxHead(config.widths[-1], config.num_classes)

    @property
    def stride(self) -> int:
        return self.config.stride

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    def forward(self, batch: EventBatch, *, fold: bool = True) -> SslaDetOutputs:
        """Predictions at the end of each stream of the batch, from a state of zero; differentiable.

        `fold=False` multiplies by every matrix in turn: the definition, slower.
        """
        if self.config.readout == "commit-peek":
            return self.read_outs([batch], fold=fold)
        weights = self.weights(fold=fold)
        state = self.initial_state(batch.height, batch.width, batch.streams)
        grid_GD, active_G = end_anchored(self.config, weights, batch, state)
        return self._predict([grid_GD], [active_G], batch)

    def read_outs(
        self, slices: Sequence[EventBatch], *, fold: bool = True, hook: Sequence[FeatureHook] | None = None
    ) -> SslaDetOutputs:
        """As :meth:`Detector.read_outs`: states go on from slice to slice, and gradients back.

        hook: of each slice, is shown the features of its events behind each level.
        """
        weights = self.weights(fold=fold)
        first = slices[0]
        state = self.initial_state(first.height, first.width, first.streams)
        grids, active = [], []
        for number, batch in enumerate(slices):
            state, _ = update_state(self.config, weights, batch, state, hook=hook[number] if hook else None)
            grids.append(peek(self.config, weights, state))
            active.append(state.depth_G > 0)
        return self._predict(grids, active, first)

    def _predict(self, grids: list[Tensor], active: list[Tensor], batch: EventBatch) -> SslaDetOutputs:
        rows, columns = self.config.frame(self.config.num_levels - 1, batch.height, batch.width)
        grid_BDHW = torch.cat(grids).view(len(grids) * batch.streams, rows, columns, -1).permute(0, 3, 1, 2)
        active_BHW = torch.cat(active).view(-1, rows, columns)
        return SslaDetOutputs(self.head(grid_BDHW), grid_BDHW, active_BHW)

    def weights(self, *, fold: bool = True) -> Weights:
        """The layers' functions with the present parameters, ``[level][layer]``."""
        levels: list[list[Any]] = [list(level) for level in self._levels()]
        return [[layer.weights(fold=fold) for layer in level] for level in levels]

    def initial_state(self, height: int, width: int, streams: int = 1) -> StreamState:
        """The state of streams without events, in this model's data type and on its device."""
        like = self.head.classes.weight
        return StreamState.zeros(
            self.config, height=height, width=width, streams=streams, dtype=like.dtype, device=like.device
        )

    def stale_cells(self, state: StreamState) -> Tensor:
        """bool [G], cells whose feature may have changed since the last read-out (one stream)."""
        return stale_cells(self.config, state)

    def _levels(self) -> list[nn.ModuleList]:
        return [level for level in self.levels if isinstance(level, nn.ModuleList)]


def build(config: SslaDetConfig, *, seed: int = 0, longest_memory: float | None = None) -> SslaDet:
    """A network with random parameters that depend on the seed alone; PyTorch's own generator is left as it was.

    With `longest_memory` states begin with a memory of 1 to so many events; else gates are random and forget within
    two, as in the released code.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SslaDet(config)
        if longest_memory is not None:
            open_gates(model, longest_memory)
        return model


def open_gates(model: SslaDet, longest: float) -> None:
    """Let the states of all layers but the first begin with a memory of 1 to `longest` events."""
    layers: list[Any] = [layer for level in model._levels() for layer in level]
    for before, layer in pairwise(layers):
        nn.init.constant_(before.norm.bias, NORM_BIAS)
        exponents_D = torch.linspace(0, 1, len(layer.norm.weight))
        layer.open_gates(longest**exponents_D)
