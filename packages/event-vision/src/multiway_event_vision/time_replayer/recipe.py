"""Training of the bundled network: clips, simulated events, stages. Begin at `Recipe.build`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions
from torch import nn

from multiway_event_vision.metrics.frame_quality import psnr
from multiway_event_vision.time_replayer import checkpoint, objective
from multiway_event_vision.time_replayer.clips import (
    Clip,
    clip_name,
    cut,
    drawn_clip,
    hidden_sensor,
    read_clip,
    record,
)
from multiway_event_vision.time_replayer.config import PRESETS
from multiway_event_vision.time_replayer.frames import open_frames
from multiway_event_vision.time_replayer.interpolator import FrameInterpolator
from multiway_event_vision.time_replayer.model import TimeReplayer
from multiway_event_vision.time_replayer.objective import Weights
from multiway_event_vision.time_replayer.protocol import Gap, gaps, spread
from multiway_event_vision.time_replayer.samples import PairSource, SampleConfig, TripletSource

TRAINED_SHARE = 0.7  # of a clip, from its start; the rest is for judging
MAX_FRAMES, WIDTH = 300, 320  # that are read of a clip
SENSORS = 3  # that look at each clip
HELD_OUT_GAPS, HELD_OUT_SKIPPED = 4, 3  # of each clip's rest, and the frames left out in each

_OBJECTIVES: dict[str, Callable[..., Loss]] = {
    "flows": objective.taught,
    "unsupervised": objective.unsupervised,
    "supervised": objective.supervised,
}


@dataclass(frozen=True)
class Stage:
    """One training run; the next one starts from its weights. learning_rate: falls along a cosine to `floor` of it."""

    name: Literal["flows", "unsupervised", "supervised"]
    samples: SampleConfig
    steps: int
    learning_rate: float
    floor: float = 0.0
    warmup_steps: int = 50


@dataclass(frozen=True)
class Recipe:
    """A network of `preset`, from random weights unless `TrainOptions.init_from` names a model.

    draws: without data, shapes are drawn to train on.
    """

    preset: str
    stages: tuple[Stage, ...]
    weights: Weights = field(default_factory=Weights)
    sub_frames: int = 8
    sensors: int = SENSORS
    draws: bool = False

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """A job a stage, on the first 70 % of the clips `options.data` (videos, or folders of pictures).

        The rest of each clip is held out: PSNR of frames that were left out. Raises InputError: no clips; DataError: a
        clip that is unreadable, too short or too small; CheckpointError.
        """
        training, held_out = recorded_clips([Path(path) for path in options.data], self, options.seed)
        model = TimeReplayer(PRESETS[self.preset])
        if options.init_from is not None:
            model.load_state_dict(checkpoint.load(hub.resolve(options.init_from)).state_dict())
        for number, stage in enumerate(self.stages):
            is_supervised, is_flows = stage.name == "supervised", stage.name == "flows"
            samples = replace(
                stage.samples,
                supervised=is_supervised,
                bins=model.config.bins,
                seed=options.seed + number,
            )
            yield TrainJob(
                model.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
                partial(_OBJECTIVES[stage.name], weights=self.weights),
                (PairSource if is_flows else TripletSource)(training, samples),
                options.apply(_train_config(stage)),
                partial(_export, is_flows=is_flows),
                HeldOut(partial(_held_out_psnr, held_out)) if held_out and not is_flows else None,
                stage.name,
            )
            if is_flows:
                model.back.load_state_dict(model.ahead.state_dict())


_TRIPLETS = SampleConfig(size=128, batch=3, gaps=(2, 4, 8))
_FLOWS = Stage(
    "flows", SampleConfig(size=128, batch=6, gaps=(2, 2, 4, 8)), steps=2400, learning_rate=1e-3, floor=0.1
)

RECIPES = {
    "time-replayer-small": Recipe("small", (_FLOWS, Stage("unsupervised", _TRIPLETS, 400, 4e-4))),
    # The upper bound: as many steps, the frames between as truth.
    "time-replayer-small-supervised": Recipe("small", (_FLOWS, Stage("supervised", _TRIPLETS, 400, 4e-4))),
    # A minute: shows that every part works, not a network to use.
    "smoke": Recipe(
        "tiny",
        (
            Stage("flows", SampleConfig(size=32, batch=2, gaps=(2,)), 4, 1e-3, warmup_steps=1),
            Stage("unsupervised", SampleConfig(size=32, batch=2, gaps=(2, 4)), 4, 1e-3, warmup_steps=1),
        ),
        sub_frames=2,
        sensors=1,
        draws=True,
    ),
}


def recorded_clips(paths: Sequence[Path], recipe: Recipe, seed: int) -> tuple[list[Clip], list[Gap]]:
    """The part of each clip to train on, with the events of hidden sensors, and gaps of the rest of all clips.

    The same for the same seed. Raises InputError, DataError.
    """
    clips: Iterable[Clip] = (
        read_clip(clip_name(path), open_frames(path, width=WIDTH), max_frames=MAX_FRAMES) for path in paths
    )
    if not paths:
        if not recipe.draws:
            raise InputError("no clips to train on; give videos or folders of pictures")
        clips = [drawn_clip(seed)]
    found, held_out = [], []
    for number, whole in enumerate(clips):
        sensors = [hidden_sensor([seed, number, sensor]) for sensor in range(recipe.sensors)]
        part = cut(whole, 0, TRAINED_SHARE)
        found.append(record(part, sensors, seed=seed + recipe.sensors * number, sub_frames=recipe.sub_frames))
        rest = cut(whole, TRAINED_SHARE, 1)
        if len(rest) > HELD_OUT_SKIPPED + 1:
            rest = record(rest, sensors[:1], seed=seed, sub_frames=recipe.sub_frames)
            held_out += spread(list(gaps(rest, HELD_OUT_SKIPPED)), HELD_OUT_GAPS)
    return found, held_out


def _held_out_psnr(held_out: Sequence[Gap], model: nn.Module) -> dict[str, float]:
    """Mean PSNR (dB) of the middle frames of the gaps."""
    assert isinstance(model, TimeReplayer)
    interpolator = FrameInterpolator(model)
    values = []
    for gap in held_out:
        (made,) = interpolator.interpolate(gap.first, gap.second, gap.events, [gap.times[gap.centre]])
        values.append(psnr(made, gap.truth_THW3[gap.centre]))
    return {"psnr": float(np.mean(values))}


def _export(model: Any, folder: Path, *, is_flows: bool) -> None:
    """The model folder. A run that ends in its first stage has trained the network for events ahead alone."""
    if is_flows:
        model.back.load_state_dict(model.ahead.state_dict())
    checkpoint.save(model.to(memory_format=torch.contiguous_format), folder, dtype=torch.bfloat16)


def _train_config(stage: Stage) -> TrainConfig:
    return TrainConfig(
        steps=stage.steps,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        final_learning_rate_ratio=stage.floor,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        clip_norm=0.1,
        precision="bf16",
        log_every=25,
    )
