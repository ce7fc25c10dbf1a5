"""The event engine: one event after another, depth first; the definition of what the others compute.

An event is a few small matrix-vector products at each level that it reaches. `native.cpp`, built on first use, walks
through a slice without coming back to Python; without a compiler the same steps run in numpy, some fifty times
slower. Both read and write the state that the other engines use.

Legend: K positions, C input width, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.ssla_det import native
from multiway_event_vision.ssla_det.engines import event_native
from multiway_event_vision.ssla_det.engines.engine import Engine
from multiway_event_vision.ssla_det.inputs import LONG_AGO_US, NEVER, EventArrays
from multiway_event_vision.ssla_det.layer import LayerWeights, SslaLayer
from multiway_event_vision.ssla_det.projections import FoldedProjection

Floats = NDArray[np.floating]


class EventEngine(Engine):
    """`native=False` keeps to numpy."""

    native: bool = True

    def __post_init__(self) -> None:
        if self.model.layer is not SslaLayer:
            raise InputError("the event engine is for SSLA-Det's own layer; use the micro-batch engine")
        if not self.model.head.classes.weight.is_cpu:
            raise InputError("the event engine runs on the CPU; use the micro-batch engine elsewhere")
        super().__post_init__()
        self._numpy_layers = [[_NumpyLayer.of(layer) for layer in level] for level in self.weights]
        self._machine: event_native.Machine | None = None

    def reset(self) -> None:
        super().reset()
        self._machine = None

    def _push(self, events: EventArrays) -> None:
        if self._machine is None and self.native and native.available():
            self._machine = event_native.Machine(self.model.config, self.weights, self.state)
        if self._machine is not None:
            self._machine.run(events, self.work.updated)
            return
        for t, pixel, on in zip(events.t.tolist(), events.pixel.tolist(), events.on.tolist(), strict=True):
            self.work.updated[self._update(t, pixel, on) - 1] += 1

    def _update(self, t: int, pixel: int, on: bool) -> int:
        """Take one event in; returns how many levels processed it."""
        config, state = self.model.config, self.state
        before = int(state.previous[pixel])
        state.previous[pixel] = t
        delta = LONG_AGO_US if before == NEVER else min(t - before, LONG_AGO_US)
        feature = np.array([delta / LONG_AGO_US, 1.0 if on else -1.0]).astype(state.waiting[0].numpy().dtype)
        y, x = divmod(pixel, self.width)
        _, columns = config.frame(config.num_levels - 1, self.height, self.width)
        cell = (y // config.stride) * columns + x // config.stride
        depth = 0
        for level in range(config.num_levels):
            height, width = config.frame(level, self.height, self.width)
            level_y, level_x = y >> level, x >> level
            if level > 0:
                count = state.counts[level - 1].numpy()
                number = count[level_y * width + level_x]
                count[level_y * width + level_x] += 1
                if number % config.thinning:
                    break
            for layer, hidden in zip(self._numpy_layers[level], state.hidden[level], strict=True):
                feature = layer.step(feature, level_y, level_x, hidden.numpy().reshape(height, width, -1))
            depth += 1
        state.waiting[depth - 1].numpy()[cell] = feature
        state.depth_G[cell], state.pixel_G[cell], state.time_G[cell] = depth, pixel, t
        state.fresh_G[cell] = max(depth, int(state.fresh_G[cell]))
        return depth


@dataclass(frozen=True)
class _NumpyLayer:
    """A layer's folded weights, and one event's step."""

    inward: Floats
    outward: Floats
    residual: Floats | None
    norm_weight: Floats
    norm_bias: Floats
    eps: float
    size: int

    @classmethod
    def of(cls, layer: LayerWeights) -> _NumpyLayer:
        assert isinstance(layer.projection, FoldedProjection)
        D = len(layer.norm_weight_D)
        return cls(
            layer.projection.inward.numpy().reshape(3, layer.size, layer.size, D, -1),
            layer.projection.outward.numpy().reshape(D, layer.size, layer.size, D),
            None if layer.residual_DC is None else layer.residual_DC.numpy(),
            layer.norm_weight_D.numpy(),
            layer.norm_bias_D.numpy(),
            layer.norm_eps,
            layer.size,
        )

    def step(self, x: Floats, y_at: int, x_at: int, hidden: Floats) -> Floats:
        """The result for feature x (C,) at this pixel; `hidden` (height, width, D) moves."""
        height, width, _ = hidden.shape
        radius = (self.size - 1) // 2
        # Position (i, j) belongs to the space at (y + radius - i, x + radius - j), so both run backwards.
        i = slice(max(0, y_at + radius - height + 1), min(self.size, y_at + radius + 1))
        j = slice(max(0, x_at + radius - width + 1), min(self.size, x_at + radius + 1))
        spaces_y = slice(y_at + radius - i.stop + 1, y_at + radius - i.start + 1)
        spaces_x = slice(x_at + radius - j.stop + 1, x_at + radius - j.start + 1)
        value, gate, query = self.inward[:, i, j] @ x
        view = hidden[spaces_y, spaces_x][::-1, ::-1]
        moved = view / (1 + np.exp(-gate)) + value
        view[...] = moved
        result = np.einsum("eijd,ijd->e", self.outward[:, i, j], query * moved)
        result += x if self.residual is None else self.residual @ x
        result -= result.mean()
        return result / np.sqrt((result * result).mean() + self.eps) * self.norm_weight + self.norm_bias
