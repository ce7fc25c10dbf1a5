"""Frames between and after frames, by whichever method suits: what command, demo, server and evaluation call.

pipeline = InterpolationPipeline.from_pretrained()
frames = list(pipeline.interpolate(first, second, events, [10_000, 20_000]))

auto = pipeline.auto()  # for a whole video: checks itself on frames that are known
for first, second, events in auto.follow(pairs):
    frames += auto.interpolate(first, second, events, [10_000])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, get_args

import torch
from multiway_core import config, hub
from multiway_core.errors import InputError
from multiway_core.model_folder import CONFIG_FILE

from multiway_event_vision.events import Events
from multiway_event_vision.frame_fusion.fusion import BUNDLED, FusionInterpolator
from multiway_event_vision.frame_fusion.self_check import SelfChecked
from multiway_event_vision.time_replayer.baselines import BASELINES, Image, Interpolation
from multiway_event_vision.time_replayer.frames import Frame
from multiway_event_vision.time_replayer.interpolator import BUNDLED as TIME_REPLAYER
from multiway_event_vision.time_replayer.interpolator import FrameInterpolator

MethodName = Literal["auto", "timereplayer", "dis", "integration"]
METHODS: Final[tuple[str, ...]] = get_args(MethodName)
NEEDS_NO_EVENTS: Final = "dis"
FREE: Final = ("dis", "integration", "blend")
"""Methods without a model that `auto` knows beside it."""


class InterpolationPipeline:
    """One model and the methods that need none. The model fuses, or is a TimeReplayer."""

    def __init__(
        self,
        model: FusionInterpolator | FrameInterpolator,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self._device, self._dtype = device, dtype

    @classmethod
    def from_pretrained(
        cls, name: str = BUNDLED, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> InterpolationPipeline:
        """A bundled model, a folder, or a hub id, of either network.

        dtype: of the network's products, float32 unless given. Raises ModelNotFoundError, ConfigError, CheckpointError.
        """
        folder = hub.resolve(name)
        kind = FrameInterpolator if _is_time_replayer(folder) else FusionInterpolator
        return cls(kind.from_pretrained(str(folder), device=device, dtype=dtype), device=device, dtype=dtype)

    @property
    def fusion(self) -> FusionInterpolator | None:
        """The fusion network; None where the model is a TimeReplayer."""
        return self.model if isinstance(self.model, FusionInterpolator) else None

    @cached_property
    def replayer(self) -> FrameInterpolator:
        """The TimeReplayer: the model, else the bundled one, loaded when first asked for."""
        if isinstance(self.model, FrameInterpolator):
            return self.model
        return FrameInterpolator.from_pretrained(TIME_REPLAYER, device=self._device, dtype=self._dtype)

    def auto(self) -> SelfChecked:
        """The model and the methods that need none, mixed as they prove themselves on one video: new for each."""
        name = "timereplayer" if self.fusion is None else "fusion"
        return SelfChecked({name: self.model} | {free: BASELINES[free]() for free in FREE})

    def method(self, name: str) -> Interpolation:
        """A method by name; `auto` as `auto()`. Raises InputError: an unknown one."""
        if name == "auto":
            return self.auto()
        if name == "timereplayer":
            return self.replayer
        if name not in METHODS:
            raise InputError(f"the method {name!r}; expected one of {', '.join(METHODS)}")
        return BASELINES[name]()

    def interpolate(
        self, first: Frame, second: Frame, events: Events, times: Sequence[int]
    ) -> Iterator[Image]:
        """Yield the model's frames at `times` (microseconds, first.t to second.t); `events` are those between the two.

        Raises InputError: frames or sensor of different sizes, or a time outside.
        """
        return self.model.interpolate(first, second, events, times)

    def extrapolate(
        self, last: Frame, events: Events, times: Sequence[int], *, longest: int | None = None
    ) -> Iterator[Image]:
        """Yield the frames at `times` after the last frame: TimeReplayer's, see `FrameInterpolator.extrapolate`."""
        return self.replayer.extrapolate(last, events, times, longest=longest)


def _is_time_replayer(folder: Path) -> bool:
    return "refinement" in config.read_json(folder / CONFIG_FILE)
