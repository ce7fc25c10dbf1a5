"""The fusion network as one object: two frames and the events between them in, frames at any time out.

Shape letters: B batch, K candidates, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.frame_fusion import checkpoint
from multiway_event_vision.frame_fusion.candidates import NAMES, GapCandidates
from multiway_event_vision.frame_fusion.model import FrameFusion
from multiway_event_vision.time_replayer.baselines import Image, to_image
from multiway_event_vision.time_replayer.frames import Frame

BUNDLED = "bundled:frame-fusion-small"


class FusedFrame(NamedTuple):
    """A frame, and how much of it each candidate is: (K, H, W), 0 to 1, in the order of `candidates.NAMES`."""

    image_HW3: Image
    weights_KHW: NDArray[np.float32]


class FusionInterpolator:
    """Makes frames between two frames."""

    def __init__(self, model: FrameFusion, *, dtype: torch.dtype | None = None) -> None:
        """dtype: of the network's convolutions (autocast)."""
        self.model, self.dtype = model.eval(), dtype or torch.float32
        self.device = next(model.parameters()).device

    @classmethod
    def from_pretrained(
        cls,
        name: str = BUNDLED,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> FusionInterpolator:
        """A bundled model, a folder, or a hub id. Raises ModelNotFoundError, ConfigError, CheckpointError."""
        return cls(checkpoint.load(hub.resolve(name), device=device), dtype=dtype)

    def interpolate(
        self, first: Frame, second: Frame, events: Events, times: Sequence[int]
    ) -> Iterator[Image]:
        """Yield the frames at `times` (microseconds, first.t to second.t); `events` are those between the two.

        At a frame's own time it is that frame. Raises InputError: frames or sensor of different sizes, a time outside.
        """
        for made in self.fuse(first, second, events, times):
            yield made.image_HW3

    def fuse(self, first: Frame, second: Frame, events: Events, times: Sequence[int]) -> Iterator[FusedFrame]:
        """The frames with what they are made of; at a frame's own time the weights are zero."""
        height, width = first.image_HW3.shape[:2]
        if second.image_HW3.shape != first.image_HW3.shape or (events.height, events.width) != (
            height,
            width,
        ):
            raise InputError(
                f"frames of {first.image_HW3.shape} and {second.image_HW3.shape}, events of a sensor of "
                f"{events.width} x {events.height} pixels; they must show the same pixels"
            )
        candidates: GapCandidates | None = None
        for t in times:
            if not first.t <= t <= second.t:
                raise InputError(f"a frame of {t} us between frames of {first.t} us and {second.t} us")
            if t in (first.t, second.t):
                given = first if t == first.t else second
                yield FusedFrame(given.image_HW3, np.zeros((len(NAMES), height, width), np.float32))
                continue
            candidates = candidates or GapCandidates(first, second, events)
            yield self._fused(candidates, t)

    @torch.inference_mode()
    def _fused(self, candidates: GapCandidates, t: int) -> FusedFrame:
        made = candidates.at(t)
        images = torch.from_numpy(made.images_KHW3).to(self.device).permute(0, 3, 1, 2)[None].float() / 255
        features = torch.from_numpy(made.features_CHW).to(self.device)[None]
        is_low = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype if is_low else None, enabled=is_low):
            fused = self.model(images, features)
        frame_HW3 = fused.frame_B3HW[0].permute(1, 2, 0).cpu().numpy()
        return FusedFrame(to_image(255 * frame_HW3), fused.weights_BKHW[0].float().cpu().numpy())
