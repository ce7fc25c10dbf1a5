"""The state of a stream. It is the same for the three engines, so one can continue from another.

Legend: P cells of a level's frame over all streams, G those of the head's grid, D width of a level.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.inputs import NEVER


@dataclass
class StreamState:
    """State of B streams behind the events so far."""

    streams: int
    height: int
    width: int
    previous: Tensor
    """(B · H · W,) int64 on the CPU, time of each pixel's last event in microseconds, or NEVER."""
    hidden: list[list[Tensor]]
    """``[level][layer]`` (P, D), the states of the spaces."""
    counts: list[Tensor]
    """[level - 1] (P,) int64, events that reached each cell before thinning, for levels 1 and up."""
    waiting: list[Tensor]
    """[level - 1] (G, D of that level's input): where a grid cell's newest event waits before that level, its feature;
    the last entry, one behind the last level, is the grid itself."""
    depth_G: Tensor
    """int64, how many levels processed a grid cell's newest event; 0 = it never had one."""
    pixel_G: Tensor
    """int64, pixel y · W + x of that event in its stream."""
    time_G: Tensor
    """int64, its time in microseconds."""
    fresh_G: Tensor
    """int64, how many levels the deepest event of a grid cell since the last read-out went through; 0 = no event."""

    @classmethod
    def zeros(
        cls,
        config: SslaDetConfig,
        *,
        height: int,
        width: int,
        streams: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StreamState:
        """The state before the first event."""
        cells = [
            streams * h * w for h, w in (config.frame(n, height, width) for n in range(config.num_levels))
        ]

        def numbers(size: int, value: int = 0) -> Tensor:
            return torch.full((size,), value, dtype=torch.int64, device=device)

        def features(size: int, width: int) -> Tensor:
            return torch.zeros(size, width, dtype=dtype, device=device)

        return cls(
            streams=streams,
            height=height,
            width=width,
            previous=torch.full((cells[0],), NEVER, dtype=torch.int64),
            hidden=[
                [features(cells[level], d) for _, d, _ in config.layers(level)]
                for level in range(config.num_levels)
            ],
            counts=[numbers(size) for size in cells[1:]],
            waiting=[features(cells[-1], d) for d in config.widths],
            depth_G=numbers(cells[-1]),
            pixel_G=numbers(cells[-1]),
            time_G=numbers(cells[-1], NEVER),
            fresh_G=numbers(cells[-1]),
        )

    @property
    def previous_times(self) -> np.ndarray:
        """`previous` as an array that shares its memory (CPU)."""
        return self.previous.numpy()

    def copy(self) -> StreamState:
        """A state that shares no memory with this one."""
        return deepcopy(self)
