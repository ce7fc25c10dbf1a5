"""How the bundled network is trained: clips, simulated events, stages. Read it from `train`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from multiway_core.errors import InputError
from multiway_core.training import Loss, TrainConfig, Trainer

from multiway_event_vision.time_replayer import checkpoint, objective
from multiway_event_vision.time_replayer.clips import Clip, clip_name, cut, hidden_sensor, read_clip, record
from multiway_event_vision.time_replayer.config import PRESETS
from multiway_event_vision.time_replayer.frames import open_frames
from multiway_event_vision.time_replayer.model import TimeReplayer
from multiway_event_vision.time_replayer.objective import Weights
from multiway_event_vision.time_replayer.samples import PairSource, SampleConfig, TripletSource

TRAINED_SHARE = 0.7  # of a clip, from its start; the rest is for judging
MOST_FRAMES, WIDTH = 300, 320  # that are read of a clip
SENSORS = 3  # that look at each clip

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
    """A network of `preset` from nothing."""

    preset: str
    stages: tuple[Stage, ...]
    weights: Weights = field(default_factory=Weights)
    sub_frames: int = 8
    sensors: int = SENSORS


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
    ),
}


def train(
    output: Path,
    clips: Sequence[Path],
    *,
    preset: str = "time-replayer-small",
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Path:
    """Train on the first 70 % of clips (videos, or folders of pictures), and write the model folder `output/model`.

    A run found in `output` is continued, and its weights are those of an uninterrupted one. `minutes` ends the run
    early, cleanly, with a checkpoint and a model of what was reached.

    Raises InputError: an unknown preset, no clips; DataError: a clip that is unreadable, too short or too small;
    CheckpointError: another run in `output`; OutputError.
    """
    if preset not in RECIPES:
        raise InputError(f"unknown preset {preset!r}; there are: {', '.join(RECIPES)}")
    recipe = RECIPES[preset]
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    recorded = recorded_clips(clips, recipe, seed)
    torch.manual_seed(seed)
    model = TimeReplayer(PRESETS[recipe.preset])
    for number, stage in enumerate(recipe.stages):
        samples = replace(
            stage.samples, supervised=stage.name == "supervised", bins=model.config.bins, seed=seed + number
        )
        source = PairSource if stage.name == "flows" else TripletSource
        trainer = Trainer(
            model.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            partial(_OBJECTIVES[stage.name], weights=recipe.weights),
            source(recorded, samples),
            _train_config(stage, seed),
            Path(output) / stage.name,
            device=device,
        )
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        is_finished = trainer.fit(stop_after_seconds=left).finished
        if stage.name == "flows":
            model.back.load_state_dict(model.ahead.state_dict())
        if not is_finished:
            break
    folder = Path(output) / "model"
    checkpoint.save(model.to("cpu", memory_format=torch.contiguous_format), folder, dtype=torch.bfloat16)  # type: ignore[call-overload]
    return folder


def recorded_clips(paths: Sequence[Path], recipe: Recipe, seed: int) -> list[Clip]:
    """The part of each clip to train on, with the events of hidden sensors. The same for the same seed."""
    if not paths:
        raise InputError("no clips to train on; give videos or folders of pictures")
    found = []
    for number, path in enumerate(paths):
        whole = read_clip(clip_name(path), open_frames(path, width=WIDTH), max_frames=MOST_FRAMES)
        sensors = [hidden_sensor([seed, number, sensor]) for sensor in range(recipe.sensors)]
        part = cut(whole, 0, TRAINED_SHARE)
        found.append(record(part, sensors, seed=seed + recipe.sensors * number, sub_frames=recipe.sub_frames))
    return found


def _train_config(stage: Stage, seed: int) -> TrainConfig:
    return TrainConfig(
        steps=stage.steps,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        final_learning_rate_ratio=stage.floor,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        clip_norm=0.1,
        precision="bf16",
        checkpoint_every_seconds=240,
        log_every=25,
        seed=seed,
    )
