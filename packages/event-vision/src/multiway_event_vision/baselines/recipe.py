"""Training of the bundled dense network: the shapes set, batches and losses of SSLA-Det's recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from multiway_core import model_folder
from multiway_core.training import TrainConfig, TrainJob, TrainOptions

from multiway_event_vision.baselines.dense_cnn import DenseCnnConfig, build
from multiway_event_vision.simulator.shapes import CLASS_NAMES
from multiway_event_vision.ssla_det.batches import StreamConfig
from multiway_event_vision.ssla_det.detector import Detector
from multiway_event_vision.ssla_det.recipe import RECIPES as SSLA_RECIPES
from multiway_event_vision.ssla_det.recipe import detector_job, shapes_of

_SHAPES = SSLA_RECIPES["shapes"]


@dataclass(frozen=True)
class DenseRecipe:
    """The dense network on simulated shapes; its model folder is in bfloat16."""

    model: DenseCnnConfig
    streams: StreamConfig
    train: TrainConfig
    training: int
    validation: int

    def build(self, options: TrainOptions) -> TrainJob:
        """The shapes set in `output/data`, and a network to train on it."""
        training, validation = shapes_of(options.output / "data", self.training, self.validation)

        def export(model: Detector, folder: Path) -> None:
            model_folder.save(model, self.model, folder, dtype=torch.bfloat16)

        return detector_job(
            build(self.model, seed=options.seed),
            training,
            self.streams,
            options.apply(self.train),
            export=export,
            held_out=validation,
        )


RECIPES: Final[dict[str, DenseRecipe]] = {
    "shapes-dense-cnn": DenseRecipe(
        DenseCnnConfig(num_classes=len(CLASS_NAMES)),
        _SHAPES.streams,
        replace(_SHAPES.train, steps=1500, learning_rate=3e-3, optimizer="adamw"),
        _SHAPES.training,
        _SHAPES.validation,
    )
}
