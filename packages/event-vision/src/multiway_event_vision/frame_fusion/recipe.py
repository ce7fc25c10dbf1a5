"""Training of the bundled fusion network. Begin at `Recipe.build`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.files import atomic_write
from multiway_core.training import HeldOut, TrainConfig, TrainJob, TrainOptions
from torch import nn

from multiway_event_vision.events import Events
from multiway_event_vision.frame_fusion import checkpoint
from multiway_event_vision.frame_fusion.config import PRESETS
from multiway_event_vision.frame_fusion.cutouts import cutout_clip
from multiway_event_vision.frame_fusion.fusion import FusionInterpolator
from multiway_event_vision.frame_fusion.model import FrameFusion
from multiway_event_vision.frame_fusion.objective import reconstruction
from multiway_event_vision.frame_fusion.samples import FusionSamples, FusionSource
from multiway_event_vision.metrics.frame_quality import psnr
from multiway_event_vision.time_replayer.clips import (
    Clip,
    clip_name,
    drawn_clip,
    hidden_sensor,
    read_clip,
    record,
)
from multiway_event_vision.time_replayer.frames import open_frames
from multiway_event_vision.time_replayer.protocol import Gap, gaps, spread

WIDTH = 320
JUDGED_EVERY = 6  # every so many clips one judges and is not trained on
JUDGED_SKIPPED = (1, 7)
_PICTURE_EVERY = 25  # frames of a clip, for the cut-outs


@dataclass(frozen=True)
class Recipe:
    """A fusion network from random weights, unless `TrainOptions.init_from` names a model.

    cutouts: scenes beside the clips, made of parts of their frames. sensors: that look at each clip. draws: without
    data, shapes are drawn to train on.
    """

    preset: str
    samples: FusionSamples
    train: TrainConfig
    cutouts: int = 16
    sensors: int = 1
    max_frames: int = 57
    sub_frames: int = 4
    draws: bool = False
    judged_gaps: int = 2

    def build(self, options: TrainOptions) -> TrainJob:
        """The job, on the clips `options.data` (videos, or folders of pictures); every sixth judges instead.

        Raises InputError: no clips; DataError: a clip that is unreadable, too short or too small; CheckpointError.
        """
        clips = self._clips(options)
        judges = clips[JUDGED_EVERY - 1 :: JUDGED_EVERY]
        training = [clip for number, clip in enumerate(clips) if number % JUDGED_EVERY != JUDGED_EVERY - 1]
        judged = [
            gap
            for clip in judges
            for skipped in JUDGED_SKIPPED
            if len(clip) > skipped + 1
            for gap in spread(list(gaps(clip, skipped)), self.judged_gaps)
        ]
        model = FrameFusion(PRESETS[self.preset])
        if options.init_from is not None:
            model.load_state_dict(checkpoint.load(hub.resolve(options.init_from)).state_dict())
        return TrainJob(
            model.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            reconstruction,  # type: ignore[arg-type]
            FusionSource(
                [*training, *self._scenes(options, training)], replace(self.samples, seed=options.seed)
            ),
            options.apply(self.train),
            _export,
            HeldOut(partial(_judged_psnr, judged)) if judged else None,
            facts={"clips": [clip.name for clip in training], "judged": [clip.name for clip in judges]},
        )

    def _clips(self, options: TrainOptions) -> list[Clip]:
        paths = [Path(path) for path in options.data]
        if not paths and not self.draws:
            raise InputError("no clips to train on; give videos or folders of pictures")

        def recorded(number: int) -> Clip:
            clip = (
                read_clip(
                    clip_name(paths[number]),
                    open_frames(paths[number], width=WIDTH),
                    max_frames=self.max_frames,
                )
                if paths
                else drawn_clip(options.seed)
            )
            sensors = [hidden_sensor([options.seed, number, sensor]) for sensor in range(self.sensors)]
            seed = options.seed + self.sensors * number
            return record(clip, sensors, seed=seed, sub_frames=self.sub_frames)

        return [
            _kept(options.output / "prepared" / f"clip-{number:03}.npz", partial(recorded, number))
            for number in range(max(1, len(paths)))
        ]

    def _scenes(self, options: TrainOptions, clips: Sequence[Clip]) -> list[Clip]:
        pictures = [picture for clip in clips for picture in clip.frames_THW3[::_PICTURE_EVERY]]

        def drawn(number: int) -> Clip:
            sensors = [hidden_sensor([options.seed, number, self.sensors])]
            return cutout_clip(pictures, sensors, [options.seed, number])

        return [
            _kept(options.output / "prepared" / f"scene-{number:03}.npz", partial(drawn, number))
            for number in range(self.cutouts)
        ]


def _kept(path: Path, make: Callable[[], Clip]) -> Clip:
    """A clip with one recording or several, which a run that was stopped finds again."""
    if path.is_file():
        with np.load(path) as found:
            frames_THW3, times_T, name = found["frames"], found["times"], str(found["name"])
            height, width = frames_THW3.shape[1:3]
            recordings = tuple(
                Events(
                    **{column: found[f"{column}{number}"] for column in "txyp"}, width=width, height=height
                )
                for number in range(int(found["recordings"]))
            )
        return Clip(name, frames_THW3, times_T, recordings)
    clip = make()
    arrays = {
        "frames": clip.frames_THW3,
        "times": clip.times_T,
        "name": clip.name,
        "recordings": len(clip.recordings),
    }
    for number, events in enumerate(clip.recordings):
        arrays |= {f"{column}{number}": getattr(events, column) for column in "txyp"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return clip


def _judged_psnr(judged: Sequence[Gap], model: nn.Module) -> dict[str, float]:
    """Mean PSNR (dB) of the middle frames of the gaps."""
    assert isinstance(model, FrameFusion)
    interpolator = FusionInterpolator(model)
    values = []
    for gap in judged:
        (made,) = interpolator.interpolate(gap.first, gap.second, gap.events, [gap.times[gap.centre]])
        values.append(psnr(made, gap.truth_THW3[gap.centre]))
    return {"psnr": float(np.mean(values))}


def _export(model: Any, folder: Path) -> None:
    checkpoint.save(model.to(memory_format=torch.contiguous_format), folder, dtype=torch.bfloat16)


def _train_config(steps: int, learning_rate: float, warmup_steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        final_learning_rate_ratio=0.01,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        clip_norm=5.0,
        precision="bf16",
        log_every=50,
    )


RECIPES = {
    "frame-fusion-small": Recipe("small", FusionSamples(), _train_config(2000, 2e-3, 50)),
    # Under a minute: shows that every part works, not a network to use.
    "frame-fusion-smoke": Recipe(
        "tiny",
        FusionSamples(size=32, margin=8, gaps_a_batch=2, gaps=(2, 4)),
        _train_config(6, 1e-3, 1),
        cutouts=1,
        sensors=1,
        sub_frames=2,
        draws=True,
    ),
}
