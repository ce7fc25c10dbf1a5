"""Training SSLA-Det: streams with several read-outs, the YOLOX losses, a dense network to learn from.

The detector is the average of the weights at the end. What else is trained with it (`event_classes.py`,
`distillation.py`) is thrown away.

    python -m multiway_event_vision.ssla_det.recipe --preset shapes --output runs/shapes

A second call goes on where the first was stopped. `runs/shapes/model` is the model folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from multiway_core import checkpoint, hub, model_folder
from multiway_core.errors import ConfigError
from multiway_core.training import Loss, TrainConfig, Trainer, load_ema_into
from torch import nn

from multiway_event_vision.baselines.dense_cnn import DenseCnn, DenseCnnConfig
from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.simulator.shapes import CLASS_NAMES
from multiway_event_vision.ssla_det import checkpoint as checkpoints
from multiway_event_vision.ssla_det.batches import StreamBatch, StreamBatches, StreamConfig
from multiway_event_vision.ssla_det.config import PRESETS as SIZES
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.detector import Detector
from multiway_event_vision.ssla_det.distillation import Distillation
from multiway_event_vision.ssla_det.event_classes import EventClasses, watchers
from multiway_event_vision.ssla_det.model import SslaDet, build
from multiway_event_vision.ssla_det.objective import ObjectiveConfig, objective
from multiway_event_vision.ssla_det.scoring import score_recordings
from multiway_event_vision.ssla_det.shapes_set import shapes_set

OBJECTIVE: Final = ObjectiveConfig(active_cells_only=True)
DISTILLED_WEIGHT: Final = 2.0
LONGEST_MEMORY: Final = 32.0
"""Events that a state's slowest feature remembers when training begins."""


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run."""

    model: SslaDetConfig
    streams: StreamConfig
    train: TrainConfig
    training: int
    """Recordings to train on."""
    validation: int
    """Recordings to judge by, at every checkpoint."""
    teacher: str = ""
    """A trained dense network (`baselines/dense_cnn.py`) to learn from, beside the labels: the name of its model."""


_TRAIN = TrainConfig(
    steps=5000,
    learning_rate=4e-3,
    warmup_steps=100,
    final_learning_rate_ratio=0.02,
    betas=(0.9, 0.99),
    optimizer="muon",
    weight_decay=0.01,
    clip_norm=10.0,
    ema_decay=0.998,
    checkpoint_every_seconds=240,
    keep_checkpoints=1,
)

RECIPES: Final[dict[str, Recipe]] = {
    "shapes": Recipe(
        replace(SIZES["ssla-s"], num_classes=len(CLASS_NAMES), class_names=CLASS_NAMES),
        StreamConfig(symmetry="square"),
        _TRAIN,
        training=1500,
        validation=24,
        teacher="bundled:shapes-dense-cnn",
    ),
    "smoke": Recipe(
        replace(SIZES["ssla-tiny"], num_classes=len(CLASS_NAMES), class_names=CLASS_NAMES),
        StreamConfig(streams=2, read_outs=2, longest_us=150_000, symmetry="square"),
        replace(_TRAIN, steps=4, warmup_steps=1),
        training=4,
        validation=2,
    ),
}
"""`shapes` is the bundled model's; `smoke` shows within seconds that all parts work together."""


class Training(nn.Module):
    """A detector and what is thrown away after its training.

    teacher: a trained detector on the same grid, which is not changed.
    """

    def __init__(self, detector: Detector, teacher: Detector | None = None) -> None:
        super().__init__()
        self.detector = detector
        self.teachers = [] if teacher is None else [teacher.eval()]  # a list: it is no part of this module
        self.distillation = None
        if teacher is not None:
            self.distillation = Distillation(
                detector.head.classes.in_channels, teacher.head.classes.in_channels
            )
        self.event_classes = None
        if isinstance(detector, SslaDet):
            self.event_classes = EventClasses(detector.config.widths, detector.num_classes)

    def loss(self, batch: StreamBatch) -> Loss:
        """The losses of all read-outs of a batch, and of its events."""
        watch, shown = watchers(len(batch.slices))
        if self.event_classes is not None:
            assert isinstance(self.detector, SslaDet)
            outputs = self.detector.read_outs(batch.slices, watch=watch)
        else:
            outputs = self.detector.read_outs(batch.slices)
        losses = objective(outputs, batch.targets, stride=self.detector.stride, config=OBJECTIVE)
        total = losses.total
        metrics = {name: getattr(losses, name).detach() for name in ("box", "objectness", "classes")}
        if self.event_classes is not None:
            of_events = self.event_classes.loss(shown, batch.labels)
            total = total + of_events
            metrics["events"] = of_events.detach()
        if self.distillation is not None:
            with torch.no_grad():
                known = self.teachers[0].read_outs(batch.slices)
            distilled = self.distillation.loss(outputs, known)
            total = total + DISTILLED_WEIGHT * distilled
            metrics["distilled"] = distilled.detach()
        return Loss(total, 1.0, {**metrics, "assigned": float(losses.assigned)}, samples=len(batch.targets))


def training_loss(model: nn.Module, batch: StreamBatch) -> Loss:
    """The objective of the trainer."""
    assert isinstance(model, Training)
    return model.loss(batch)


def fit(
    model: Detector,
    training: Sequence[LabelledRecording],
    validation: Sequence[LabelledRecording],
    recipe: Recipe,
    output: Path,
    *,
    teacher: Detector | None = None,
    seed: int = 0,
    device: str = "cpu",
    minutes: float | None = None,
) -> bool:
    """Train a detector in place, SSLA-Det or another; it ends with the average of its weights. Whether it is finished.

    `output` holds the trainer's files; a run found there is continued. `teacher` is a trained detector to learn from.
    """

    def judge(step: int, _: nn.Module) -> None:
        if validation:
            scores = score_recordings(model, validation)
            print(f"step {step}: AP {scores.ap:.3f}, AP50 {scores.ap50:.3f}", file=sys.stderr, flush=True)

    # The maps that are thrown away after training start from the seed too, whatever drew numbers before.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        training_model = Training(model, teacher)
    trainer = Trainer(
        training_model,
        training_loss,
        StreamBatches(training, recipe.streams, seed=seed),
        replace(recipe.train, seed=seed),
        output,
        device=device,
        on_checkpoint=judge,
    )
    result = trainer.fit(None if minutes is None else minutes * 60)
    load_ema_into(training_model, output)
    model.eval()
    return result.finished


def train(
    preset: str,
    output: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    minutes: float | None = None,
    start: Path | None = None,
) -> Path:
    """Make the shapes set, train on it, write the model folder, whose path is returned.

    Args:
        preset: a name in RECIPES.
        output: folder for data, checkpoints and the model; a run found there is continued.
        minutes: stop after so long; the model is written as it is then.
        start: a model folder whose weights are where training begins.

    Raises:
        ConfigError: unknown preset. CheckpointError: `output` holds another run, or `start` does not fit.
    """
    if preset not in RECIPES:
        raise ConfigError(f"no recipe {preset!r}: there are {', '.join(RECIPES)}")
    recipe = RECIPES[preset]
    training = shapes_set("train", recipe.training, file=output / "data" / "train.npz")
    validation = shapes_set(
        "validation", recipe.validation, label_every_us=50_000, file=output / "data" / "validation.npz"
    )
    model = build(recipe.model, seed=seed, longest_memory=LONGEST_MEMORY)
    if start is not None:
        checkpoint.load(model, start / model_folder.WEIGHTS_FILE)
    teacher = None
    if recipe.teacher:
        teacher = model_folder.load(DenseCnn, DenseCnnConfig, hub.resolve(recipe.teacher), device=device)
    fit(
        model,
        training,
        validation,
        recipe,
        output,
        teacher=teacher,
        seed=seed,
        device=device,
        minutes=minutes,
    )
    checkpoints.save(model, output / "model")
    return output / "model"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=sorted(RECIPES), default="shapes")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--start", type=Path, help="model folder to begin with")
    options = parser.parse_args()
    print(
        train(options.preset, options.output, seed=options.seed, minutes=options.minutes, start=options.start)
    )
