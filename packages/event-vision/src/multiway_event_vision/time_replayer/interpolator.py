"""TimeReplayer as one object: frames and events in, frames at any time out. Command, demo and evaluation all call it.

Shape letters: B batch, N bins, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from numpy.typing import NDArray
from torch import Tensor

from multiway_event_vision.events import Events
from multiway_event_vision.time_replayer import checkpoint
from multiway_event_vision.time_replayer.baselines import Image, position, to_image
from multiway_event_vision.time_replayer.frames import Frame
from multiway_event_vision.time_replayer.model import Synthesis, TimeReplayer
from multiway_event_vision.time_replayer.voxel_grid import reversed_grid, voxel_grid

BUNDLED = "bundled:time-replayer-small"


class InterpolatedFrame(NamedTuple):
    """A frame with what it was made of: flows to both neighbours (H, W, 2) in pixels, the first one's share (H, W)."""

    image_HW3: Image
    to_first_HW2: NDArray[np.float32]
    to_second_HW2: NDArray[np.float32]
    visibility_HW: NDArray[np.float32]


class FrameInterpolator:
    """Makes frames between two frames, and after the last one."""

    def __init__(self, model: TimeReplayer, *, dtype: torch.dtype | None = None) -> None:
        """dtype: of the networks' matrix products and convolutions (autocast); frames are warped in float32."""
        self.model, self.dtype = model.eval(), dtype or torch.float32
        self.device = next(model.parameters()).device

    @classmethod
    def from_pretrained(
        cls,
        name: str = BUNDLED,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> FrameInterpolator:
        """A bundled model, a folder, or a hub id; dtype: of the networks' products, float32 unless given.

        Raises ModelNotFoundError, ConfigError, CheckpointError.
        """
        return cls(checkpoint.load(hub.resolve(name), device=device), dtype=dtype)

    def interpolate(
        self, first: Frame, second: Frame, events: Events, times: Sequence[int]
    ) -> Iterator[Image]:
        """Yield the frames at `times` (microseconds, first.t to second.t); `events` are those between the two.

        Each is made from the two frames and all events, not from other made ones: errors do not add up. At a frame's
        own time it is that frame. Raises InputError: frames or sensor of different sizes, or a time outside.
        """
        for t in times:
            yield self.interpolate_one(first, second, events, t).image_HW3

    def interpolate_one(self, first: Frame, second: Frame, events: Events, t: int) -> InterpolatedFrame:
        """The frame at one time, and what it was made of. Raises InputError as `interpolate`."""
        _check(first, events)
        if second.image_HW3.shape != first.image_HW3.shape:
            raise InputError(
                f"frames of {first.image_HW3.shape} and {second.image_HW3.shape}; expected equal ones"
            )
        if not first.t <= t <= second.t:
            raise InputError(f"a frame of {t} us between frames of {first.t} us and {second.t} us")
        if t in (first.t, second.t):
            height, width = first.image_HW3.shape[:2]
            still_HW2 = np.zeros((height, width, 2), np.float32)
            is_first = t == first.t
            image_HW3 = first.image_HW3 if is_first else second.image_HW3
            return InterpolatedFrame(
                image_HW3, still_HW2, still_HW2, np.full((height, width), is_first, np.float32)
            )
        before_BNHW = self._grid(reversed_grid(self._voxels(events, first.t, t)))
        after_BNHW = self._grid(self._voxels(events, t, second.t))
        made = self._made(first, second, before_BNHW, after_BNHW, position(first, second, t), has_second=True)
        return InterpolatedFrame(
            _image(made),
            made.refined_to_first_B2HW[0].permute(1, 2, 0).cpu().numpy(),
            made.refined_to_second_B2HW[0].permute(1, 2, 0).cpu().numpy(),
            made.visibility_B1HW[0, 0].cpu().numpy(),
        )

    def extrapolate(
        self, last: Frame, events: Events, times: Sequence[int], *, longest: int | None = None
    ) -> Iterator[Image]:
        """Yield the frames at `times` after the last frame, in order, from that frame and the events since then.

        longest: microseconds; beyond so long a stretch the frame made at its end takes the last frame's place, again
        and again. Raises InputError: a sensor of another size, a time before the last frame's or before the one before.
        """
        _check(last, events)
        before = last.t
        for t in times:
            if t < before:
                raise InputError(f"a frame of {t} us after one of {before} us; times must not fall")
            before = t
            while longest is not None and t - last.t > longest:
                last = Frame(self._after(last, events, last.t + longest), last.t + longest)
            yield last.image_HW3 if t == last.t else self._after(last, events, t)

    def _after(self, last: Frame, events: Events, t: int) -> Image:
        since_BNHW = self._grid(reversed_grid(self._voxels(events, last.t, t)))
        made = self._made(last, last, since_BNHW, torch.zeros_like(since_BNHW), 0.0, has_second=False)
        return _image(made)

    def _voxels(self, events: Events, start: int, end: int) -> NDArray[np.float32]:
        return voxel_grid(events.between(start, end), start, end, self.model.config.bins)

    def _grid(self, grid_NHW: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(grid_NHW))[None].to(self.device)

    @torch.inference_mode()
    def _made(
        self, first: Frame, second: Frame, before: Tensor, after: Tensor, share: float, *, has_second: bool
    ) -> Synthesis:
        frames = [
            torch.from_numpy(frame.image_HW3.astype(np.float32) / 255).permute(2, 0, 1)[None].to(self.device)
            for frame in (first, second)
        ]
        position_B = torch.tensor([share], device=self.device)
        has_second_B = torch.tensor([has_second], device=self.device)
        is_low = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype if is_low else None, enabled=is_low):
            made: Synthesis = self.model(*frames, before, after, position_B, has_second_B)
        return made


def _image(made: Synthesis) -> Image:
    return to_image(255 * made.frame_B3HW[0].permute(1, 2, 0).cpu().numpy())


def _check(frame: Frame, events: Events) -> None:
    height, width = frame.image_HW3.shape[:2]
    if (events.height, events.width) != (height, width):
        raise InputError(
            f"events of a sensor of {events.width} x {events.height} pixels for frames of {width} x {height}; "
            "they must show the same pixels"
        )
