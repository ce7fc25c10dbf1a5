"""The compiled parts of the engines: packs weights for `event.cpp` and hands it the memory of a stream's state.

The C++ is built with the user's compiler on first use (`multiway_blocks.kernels.native`); where there is none, the
event engine runs in numpy and the micro-batch engine in plain PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_blocks.kernels import native
from numpy.typing import NDArray
from torch import Tensor

from multiway_event_vision.ssla_det.commit import Weights
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.inputs import EventArrays
from multiway_event_vision.ssla_det.layer import LayerWeights
from multiway_event_vision.ssla_det.projections import FoldedProjection
from multiway_event_vision.ssla_det.spaces import Place
from multiway_event_vision.ssla_det.state import StreamState

_NAMES = {torch.float32: "f32", torch.float64: "f64"}
_LANES, _STRIP = 16, 64  # as in event.cpp
_PROJECTED_AT_ONCE = 100_000  # numbers: they should stay in a core's cache


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions by name and data type; empty where they cannot be built."""
    library = native.load(Path(__file__).with_name("event.cpp"))
    if library is None:
        return {}
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    arguments = {"run": (*[pointer] * 4, size, pointer), "mix": (*[size] * 5, *[pointer] * 6)}
    functions: dict[tuple[str, torch.dtype], Callable[..., None]] = {}
    for name, types in arguments.items():
        for dtype, ending in _NAMES.items():
            function = getattr(library, f"{name}_{ending}")
            function.argtypes, function.restype = types, None
            functions[name, dtype] = function
    return functions


def available() -> bool:
    """Whether the compiled engine can be used here."""
    return bool(_functions())


class Machine:
    """Weights and state of one stream as `event.cpp` takes them. It moves that very state, so it must stay in place."""

    def __init__(self, config: SslaDetConfig, weights: Weights, state: StreamState) -> None:
        self._function = _functions()["run", state.waiting[0].dtype]
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

    def run(self, events: EventArrays, committed: NDArray[np.int64]) -> None:
        """Take events in; `committed` [levels] counts them by the last level that they reached."""
        t, pixel = np.ascontiguousarray(events.t), np.ascontiguousarray(events.pixel)
        on = np.ascontiguousarray(events.on).view(np.uint8)
        arrays: list[Any] = [self._record, t, pixel, on]
        self._function(*(a.ctypes.data for a in arrays), len(events), committed.ctypes.data)

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


def run_level(
    layers: Sequence[LayerWeights], x_MC: Tensor, place: Place, hidden: Sequence[Tensor], **_: bool
) -> tuple[Tensor, list[Tensor]]:
    """As `commit.run_level` for one stream without gradients, always in place.

    Products of some hundred events at once, then their states one event after another: that needs no sorting, and what
    is projected never leaves the cache.
    """
    function = _functions()["mix", x_MC.dtype]
    for layer, state in zip(layers, hidden, strict=True):
        assert isinstance(layer.projection, FoldedProjection)
        D, K = len(layer.norm_weight_D), layer.size**2
        gate = state.new_empty(_padded(K * D))
        out_MD = x_MC.new_empty(len(x_MC), D)
        step = max(_LANES, _PROJECTED_AT_ONCE // (3 * K * D))
        for start in range(0, len(x_MC), step):
            part = slice(start, start + step)
            x_NC = x_MC[part]
            # One row more than there are: vectors may be read beyond the last number.
            projected = x_NC.new_empty(len(x_NC) + 1, 3 * K * D)
            torch.mm(x_NC, layer.projection.inward.t(), out=projected[:-1])
            o_NKD = x_NC.new_empty(len(x_NC), K, D)
            sizes = (len(x_NC), layer.size, D, place.height, place.width)
            tensors = (place.y_N[part], place.x_N[part], projected, state, gate, o_NKD)
            function(*sizes, *(tensor.data_ptr() for tensor in tensors))
            out_MD[part] = layer.leave(x_NC, o_NKD)
        x_MC = out_MD
    return x_MC, list(hidden)


def pack(matrix: Tensor) -> Tensor:
    """(outputs, inputs) as strips of 64 outputs, the last one padded to a multiple of 16; each input by input."""
    strips = []
    for rows in matrix.split(_STRIP):
        padding = matrix.new_zeros(-len(rows) % _LANES, matrix.shape[1])
        strips.append(torch.cat([rows, padding]).t().flatten())
    return torch.cat(strips)


def _scratch_size(config: SslaDetConfig) -> int:
    """Numbers that `event.cpp` writes between an event's steps, at most."""
    sizes = [sizes for level in range(config.num_levels) for sizes in config.layers(level)]
    rows = max(_padded(3 * k * k * d) + 2 * _padded(k * k * d) for _, d, k in sizes)
    return rows + 2 * max(_LANES, *(_padded(d) for d in config.widths))


def _padded(count: int) -> int:
    return -(-count // _LANES) * _LANES


def _bits(number: float) -> int:
    return int(struct.unpack("q", struct.pack("d", number))[0])
