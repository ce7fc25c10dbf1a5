"""Training SSLA-Det on people and vehicles, from recordings that `dataset.build` made.

First a dense network learns the boxes, then SSLA-Det learns the boxes and the dense network's features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from multiway_core.errors import InputError
from multiway_core.training import TrainConfig, TrainJob, TrainOptions
from torch import Tensor

from multiway_event_vision.baselines.dense_cnn import DenseCnnConfig
from multiway_event_vision.baselines.dense_cnn import build as build_dense
from multiway_event_vision.labels.labelled import LabelledRecording, load_recordings, save_recordings
from multiway_event_vision.ssla_det import checkpoint as checkpoints
from multiway_event_vision.ssla_det.batches import StreamConfig
from multiway_event_vision.ssla_det.config import PRESETS as SIZES
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.model import SslaDet, build
from multiway_event_vision.ssla_det.recipe import LONGEST_MEMORY, detector_job, initial_model
from multiway_event_vision.ssla_det.recipe import RECIPES as SSLA_RECIPES
from multiway_event_vision.street.dataset import read_recordings
from multiway_event_vision.street.recording import CLASS_NAMES
from multiway_event_vision.street.views import street_views


@dataclass(frozen=True)
class StreetRecipe:
    """SSLA-Det on random views of recordings, and the dense network that it learns from."""

    model: SslaDetConfig
    streams: StreamConfig
    train: TrainConfig
    dense: DenseCnnConfig
    dense_streams: StreamConfig
    dense_train: TrainConfig
    training: int
    """Views of the recordings."""

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """Two jobs: the dense network, and SSLA-Det.

        `options.data` is the folder of recordings; `options.init_from` a model folder of the same size, perhaps with
        other classes. Raises DataError: no recordings. InputError, ConfigError, CheckpointError: bad options.
        """
        if len(options.data) != 1:
            raise InputError("give the folder of recordings to train on as the data")
        views = _views(
            Path(options.data[0]), options.output / "data" / "views.npz", self.training, options.seed
        )
        model = build(self.model, seed=options.seed, longest_memory=LONGEST_MEMORY)
        if options.init_from is not None:
            adopt(model, checkpoints.load(initial_model(options)).state_dict())
        teacher = build_dense(self.dense, seed=options.seed)
        dense_train = replace(options.apply(self.dense_train), steps=self.dense_train.steps)
        yield detector_job(teacher, views, self.dense_streams, dense_train, name="dense")
        yield detector_job(model, views, self.streams, options.apply(self.train), teacher=teacher)


_TRAIN = replace(SSLA_RECIPES["shapes"].train, steps=700)
RECIPES: Final[dict[str, StreetRecipe]] = {
    "street": StreetRecipe(
        replace(SIZES["ssla-s"], num_classes=len(CLASS_NAMES), class_names=CLASS_NAMES),
        StreamConfig(read_outs=3, longest_us=300_000, max_events=8_000, burn_in_us=50_000, symmetry="mirror"),
        _TRAIN,
        DenseCnnConfig(num_classes=len(CLASS_NAMES)),
        StreamConfig(max_events=15_000, burn_in_us=50_000, symmetry="mirror"),
        replace(_TRAIN, steps=1200, learning_rate=3e-3, optimizer="adamw"),
        training=1600,
    )
}


def adopt(model: SslaDet, tensors: Mapping[str, Tensor]) -> None:
    """Take over every tensor that fits; those of the classes do not where their number is another."""
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if tensor.shape == own[name].shape}
    model.load_state_dict({**own, **fitting})


def _views(recordings: Path, file: Path, count: int, seed: int) -> list[LabelledRecording]:
    if not file.is_file():
        save_recordings(street_views(list(read_recordings(recordings).values()), count, seed=seed), file)
    return load_recordings(file)
