"""Training SSLA-Det: streams that are read several times, the YOLOX losses, a dense network to learn from.

The detector is the average of the weights at the end. What else is trained with it (`event_classes.py`,
`distillation.py`) is thrown away. `multiway-event-detection train` runs these recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from multiway_core import checkpoint, hub, model_folder
from multiway_core.errors import InputError
from multiway_core.training import HeldOut, Loss, TrainConfig, TrainJob, TrainOptions
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
from multiway_event_vision.ssla_det.event_classes import EventClasses, feature_hooks
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
    """SSLA-Det on simulated shapes."""

    model: SslaDetConfig
    streams: StreamConfig
    train: TrainConfig
    training: int
    """Recordings to train on."""
    validation: int
    """Recordings that are held out."""
    teacher: str = ""
    """A trained dense network (`baselines/dense_cnn.py`) to learn from, beside the labels: the name of its model."""

    def build(self, options: TrainOptions) -> TrainJob:
        """The shapes set in `output/data`, and a detector to train on it.

        Raises CheckpointError: `options.init_from` does not fit. InputError: it is no model folder, or data was given.
        """
        if options.data:
            raise InputError("this preset makes its recordings itself; train without data")
        model = build(self.model, seed=options.seed, longest_memory=LONGEST_MEMORY)
        if options.init_from is not None:
            checkpoint.load(model, initial_model(options) / model_folder.WEIGHTS_FILE)
        teacher = None
        if self.teacher:
            teacher = model_folder.load(DenseCnn, DenseCnnConfig, hub.resolve(self.teacher))
        training, validation = shapes_of(options.output / "data", self.training, self.validation)
        return detector_job(
            model, training, self.streams, options.apply(self.train), held_out=validation, teacher=teacher
        )


def shapes_of(
    folder: Path, training: int, validation: int
) -> tuple[list[LabelledRecording], list[LabelledRecording]]:
    """So many recordings of the shapes set to train on, and held out; made once, in `folder`."""
    return shapes_set("train", training, file=folder / "train.npz"), shapes_set(
        "validation", validation, label_every_us=50_000, file=folder / "validation.npz"
    )


def initial_model(options: TrainOptions) -> Path:
    """The folder of `options.init_from`. Raises InputError, ModelNotFoundError."""
    assert options.init_from is not None
    folder = hub.resolve(options.init_from)
    if not folder.is_dir():
        raise InputError(f"--init-from {options.init_from}: expected a model folder")
    return folder


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
"""`shapes` is the bundled model's; `smoke` shows within a minute that all parts work together."""


class DetectorTraining(nn.Module):
    """A detector and what is thrown away after its training.

    teacher: a trained detector on the same grid, which is not changed.
    """

    def __init__(self, detector: Detector, teacher: Detector | None = None) -> None:
        super().__init__()
        self.detector = detector
        self._teachers = [] if teacher is None else [teacher.eval()]  # a list: it is no part of this module
        self.distillation = None
        if teacher is not None:
            self.distillation = Distillation(
                detector.head.classes.in_channels, teacher.head.classes.in_channels
            )
        self.event_classes = None
        if isinstance(detector, SslaDet):
            self.event_classes = EventClasses(detector.config.widths, detector.num_classes)

    def forward(self, batch: StreamBatch) -> Loss:
        """The losses of all read-outs of a batch, and of its events."""
        hook, shown = feature_hooks(len(batch.slices))
        if self.event_classes is not None:
            assert isinstance(self.detector, SslaDet)
            outputs = self.detector.read_outs(batch.slices, hook=hook)
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
                known = self._teachers[0].to(total.device).read_outs(batch.slices)
            distilled = self.distillation.loss(outputs, known)
            total = total + DISTILLED_WEIGHT * distilled
            metrics["distilled"] = distilled.detach()
        return Loss(total, 1.0, {**metrics, "assigned": float(losses.assigned)}, samples=len(batch.targets))


def training_loss(model: nn.Module, batch: StreamBatch) -> Loss:
    """The objective of the trainer."""
    loss: Loss = model(batch)
    return loss


def detector_job(
    model: Detector,
    recordings: Sequence[LabelledRecording],
    streams: StreamConfig,
    config: TrainConfig,
    *,
    export: Callable[[Detector, Path], None] | None = None,
    held_out: Sequence[LabelledRecording] = (),
    teacher: Detector | None = None,
    name: str = "",
) -> TrainJob:
    """The job of a detector, SSLA-Det or another, on labelled recordings; `export` is SSLA-Det's own unless given.

    The heads that are thrown away are built here, from PyTorch's global generator: seed it before. `teacher` is a
    trained detector on the same grid to learn from. The held-out score is average precision.
    """
    write = export or checkpoints.save

    def score(training: nn.Module) -> dict[str, float]:
        assert isinstance(training, DetectorTraining)
        # Together they need equally many label times.
        is_even = len({len(recording.label_times) for recording in held_out}) == 1
        scores = score_recordings(training.detector, held_out, at_once=8 if is_even else 1)
        return {"ap": scores.ap, "ap50": scores.ap50}

    return TrainJob(
        DetectorTraining(model, teacher),
        training_loss,
        StreamBatches(recordings, streams, seed=config.seed),
        config,
        lambda training, folder: write(training.detector, folder),
        HeldOut(score) if held_out else None,
        name,
    )
