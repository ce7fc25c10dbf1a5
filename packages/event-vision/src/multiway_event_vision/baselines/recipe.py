"""Training of the bundled dense network: the shapes set, batches and losses of SSLA-Det's recipe.

    python -m multiway_event_vision.baselines.recipe --output runs/shapes-dense-cnn

A second call goes on where the first was stopped. `runs/shapes-dense-cnn/model` is the model folder.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch
from multiway_core import model_folder

from multiway_event_vision.baselines.dense_cnn import DenseCnnConfig, build
from multiway_event_vision.simulator.shapes import CLASS_NAMES
from multiway_event_vision.ssla_det.recipe import RECIPES, fit
from multiway_event_vision.ssla_det.shapes_set import shapes_set


def train(output: Path, *, steps: int = 1500, seed: int = 0, minutes: float | None = None) -> Path:
    """Make the shapes set, train on it, write the model folder in bfloat16, whose path is returned.

    `minutes`: stop after so long; the model is written as it is then. Raises CheckpointError.
    """
    recipe = RECIPES["shapes"]
    numbers = replace(recipe.train, steps=steps, learning_rate=3e-3, optimizer="adamw")
    data = output / "data"
    training = shapes_set("train", recipe.training, file=data / "train.npz")
    validation = shapes_set(
        "validation", recipe.validation, label_every_us=50_000, file=data / "validation.npz"
    )
    model = build(DenseCnnConfig(num_classes=len(CLASS_NAMES)), seed=seed)
    fit(model, training, validation, replace(recipe, train=numbers), output, seed=seed, minutes=minutes)
    model_folder.save(model, model.config, output / "model", dtype=torch.bfloat16)
    return output / "model"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    print(train(options.output, steps=options.steps, seed=options.seed, minutes=options.minutes))
