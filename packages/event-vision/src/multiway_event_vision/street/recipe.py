"""Training SSLA-Det on people and vehicles, from recordings that `build` made.

    python -m multiway_event_vision.street.recipe RECORDINGS/training --start SHAPES_MODEL --output runs/street

A second call goes on where the first was stopped. `runs/street/model` is the model folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from multiway_core import model_folder
from torch import Tensor

from multiway_event_vision.baselines.dense_cnn import DenseCnn, DenseCnnConfig
from multiway_event_vision.baselines.dense_cnn import build as build_dense
from multiway_event_vision.labels.labelled import LabelledRecording, load_recordings, save_recordings
from multiway_event_vision.ssla_det import checkpoint as checkpoints
from multiway_event_vision.ssla_det.batches import StreamConfig
from multiway_event_vision.ssla_det.config import PRESETS as SIZES
from multiway_event_vision.ssla_det.model import SslaDet, build
from multiway_event_vision.ssla_det.recipe import LONGEST_MEMORY, RECIPES, Recipe, fit
from multiway_event_vision.street.build import read_recordings
from multiway_event_vision.street.recording import CLASS_NAMES
from multiway_event_vision.street.views import street_views

_TRAIN = replace(RECIPES["shapes"].train, steps=700)

RECIPE: Final = Recipe(
    replace(SIZES["ssla-s"], num_classes=len(CLASS_NAMES), class_names=CLASS_NAMES),
    StreamConfig(read_outs=3, longest_us=300_000, max_events=8_000, burn_in_us=50_000, symmetry="mirror"),
    _TRAIN,
    training=1600,
    validation=0,
)
DENSE: Final = DenseCnnConfig(num_classes=len(CLASS_NAMES))
DENSE_STREAMS: Final = StreamConfig(max_events=15_000, burn_in_us=50_000, symmetry="mirror")
DENSE_TRAIN: Final = replace(
    _TRAIN, steps=1200, learning_rate=3e-3, optimizer="adamw", checkpoint_every_seconds=120
)


def train(
    recordings: Path,
    output: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    minutes: float | None = None,
    start: Path | None = None,
) -> Path:
    """Take views of the recordings in a folder, train on them, write the model folder, whose path is returned.

    First a dense network learns the boxes (`output/dense` is its folder), then SSLA-Det learns the boxes and the dense
    network's features. Both go on where they were stopped.

    Args:
        steps: of SSLA-Det, instead of the recipe's.
        minutes: ends the training of SSLA-Det early.
        start: a model folder of the same size, perhaps with other classes, whose weights are where it begins.

    Raises:
        DataError: no recordings. ConfigError, CheckpointError: `start` does not fit, or `output` holds another run.
    """
    views = _views(recordings, output / "data" / "views.npz", RECIPE.training, seed)
    teacher = _dense(views, output / "dense", seed)
    recipe = RECIPE if steps is None else replace(RECIPE, train=replace(RECIPE.train, steps=steps))
    model = build(recipe.model, seed=seed, longest_memory=LONGEST_MEMORY)
    if start is not None:
        adopt(model, checkpoints.load(start).state_dict())
    fit(model, views, [], recipe, output, teacher=teacher, seed=seed, minutes=minutes)
    checkpoints.save(model, output / "model")
    return output / "model"


def _dense(views: Sequence[LabelledRecording], folder: Path, seed: int) -> DenseCnn:
    if (folder / "model").is_dir():
        return model_folder.load(DenseCnn, DenseCnnConfig, folder / "model")
    model = build_dense(DENSE, seed=seed)
    fit(model, views, [], replace(RECIPE, streams=DENSE_STREAMS, train=DENSE_TRAIN), folder, seed=seed)
    model_folder.save(model, DENSE, folder / "model")
    return model


def adopt(model: SslaDet, tensors: Mapping[str, Tensor]) -> None:
    """Take over every tensor that fits; those of the classes do not where their number is another."""
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if tensor.shape == own[name].shape}
    model.load_state_dict({**own, **fitting})


def _views(recordings: Path, file: Path, count: int, seed: int) -> list[LabelledRecording]:
    if not file.is_file():
        save_recordings(street_views(list(read_recordings(recordings).values()), count, seed=seed), file)
    return load_recordings(file)


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="model folder to begin with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    given = parser.parse_args()
    print(
        train(
            given.recordings,
            given.output,
            seed=given.seed,
            steps=given.steps,
            minutes=given.minutes,
            start=given.start,
        )
    )


if __name__ == "__main__":
    main()
