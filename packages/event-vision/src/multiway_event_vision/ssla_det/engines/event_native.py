"""The event engine's compiled form: packs weights for `native.cpp` and hands it the memory of a stream's state."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiway_event_vision.ssla_det import native
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.inputs import EventArrays
from multiway_event_vision.ssla_det.layer import LayerWeights
from multiway_event_vision.ssla_det.projections import FoldedProjection
from multiway_event_vision.ssla_det.state import StreamState
from multiway_event_vision.ssla_det.state_update import Weights


class Machine:
    """Weights and state of one stream for `native.cpp`, which moves that very state: it must stay in place."""

    def __init__(self, config: SslaDetConfig, weights: Weights, state: StreamState) -> None:
        self._function = native.functions()["run", state.waiting[0].dtype]
        self._kept: list[Tensor] = []  # memory that the record below points to
        words: list[int] = [config.num_levels, config.thinning, state.width]
        eps = weights[0][0].norm_eps
        cells = (state.depth_G, state.pixel_G, state.time_G, state.fresh_G)
        words += [_bits(eps), *map(self._keep, (state.previous, *cells))]
        words.append(self._keep(state.waiting[0].new_zeros(_scratch_size(config))))
        for level in range(config.num_levels):
            words += config.frame(level, state.height, state.width)
            words.append(self._keep(state.counts[level - 1]) if level else 0)
            words.append(self._keep(state.waiting[level]))
            for layer, hidden in zip(weights[level], state.hidden[level], strict=True):
                words += self._layer(layer, hidden)
        self._record = np.array(words, np.int64)

    def run(self, events: EventArrays, updated: NDArray[np.int64]) -> None:
        """Take events in; `updated` [levels] counts them by the last level that they reached."""
        t, pixel = np.ascontiguousarray(events.t), np.ascontiguousarray(events.pixel)
        on = np.ascontiguousarray(events.on).view(np.uint8)
        arrays: list[Any] = [self._record, t, pixel, on]
        self._function(*(a.ctypes.data for a in arrays), len(events), updated.ctypes.data)

    def _layer(self, layer: LayerWeights, hidden: Tensor) -> list[int]:
        assert isinstance(layer.projection, FoldedProjection)
        inward = layer.projection.inward
        matrices = [inward, layer.projection.outward, layer.residual_DC]
        return [
            inward.shape[1],
            len(layer.norm_weight_D),
            layer.size,
            *(0 if matrix is None else self._keep(pack(matrix)) for matrix in matrices),
            *map(self._keep, (layer.norm_weight_D, layer.norm_bias_D, hidden)),
        ]

    def _keep(self, tensor: Tensor) -> int:
        assert tensor.is_contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def pack(matrix: Tensor) -> Tensor:
    """(outputs, inputs) as strips of 64 outputs, the last one padded to a multiple of 16; each input by input."""
    strips = []
    for rows in matrix.split(native.STRIP):
        padding = matrix.new_zeros(-len(rows) % native.LANES, matrix.shape[1])
        strips.append(torch.cat([rows, padding]).t().flatten())
    return torch.cat(strips)


def _scratch_size(config: SslaDetConfig) -> int:
    """Numbers that `native.cpp` writes between an event's steps, at most."""
    sizes = [sizes for level in range(config.num_levels) for sizes in config.layers(level)]
    rows = max(native.padded(3 * k * k * d) + 2 * native.padded(k * k * d) for _, d, k in sizes)
    return rows + 2 * max(native.LANES, *(native.padded(d) for d in config.widths))


def _bits(number: float) -> int:
    return int(struct.unpack("q", struct.pack("d", number))[0])
