"""Training SSLA-Det on recordings with labels: people and vehicles as `dataset.build` made them, or one's own.

First a dense network learns the boxes, then SSLA-Det learns the boxes and the dense network's features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from multiway_core.errors import InputError
from multiway_core.training import TrainConfig, TrainJob, TrainOptions
from torch import Tensor

from multiway_event_vision import domain
from multiway_event_vision.baselines.dense_cnn import DenseCnnConfig
from multiway_event_vision.baselines.dense_cnn import build as build_dense
from multiway_event_vision.labels.folder import read_labelled
from multiway_event_vision.labels.labelled import LabelledRecording, load_recordings, save_recordings
from multiway_event_vision.ssla_det import checkpoint as checkpoints
from multiway_event_vision.ssla_det.batches import StreamConfig
from multiway_event_vision.ssla_det.config import PRESETS as SIZES
from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.detector import Detector
from multiway_event_vision.ssla_det.model import SslaDet, build
from multiway_event_vision.ssla_det.recipe import LONGEST_MEMORY, detector_job, initial_model
from multiway_event_vision.ssla_det.recipe import RECIPES as SSLA_RECIPES
from multiway_event_vision.street.dataset import read_recordings
from multiway_event_vision.street.recording import CLASS_NAMES
from multiway_event_vision.street.views import street_views


@dataclass(frozen=True)
class RecordingsRecipe:
    """SSLA-Det on random views of recordings, and the dense network that it learns from."""

    model: SslaDetConfig
    streams: StreamConfig
    train: TrainConfig
    dense: DenseCnnConfig
    dense_streams: StreamConfig
    dense_train: TrainConfig
    training: int
    """Views of the recordings."""
    own: bool = False
    """Recordings and labels as `labels/folder.py` finds them, of any classes; a fifth is held out."""
    held_out: int = 24
    """Views of what is held out of one's own recordings."""

    def build(self, options: TrainOptions) -> Iterator[TrainJob]:
        """Two jobs: the dense network, and SSLA-Det.

        `options.data` is the folder of recordings; `options.init_from` a model folder of the same size, perhaps with
        other classes. Raises DataError: no recordings. InputError, ConfigError, CheckpointError: bad options.
        """
        if len(options.data) != 1:
            raise InputError("give the folder of recordings to train on as the data")
        folder, data = Path(options.data[0]), options.output / "data"
        names: tuple[str, ...] = CLASS_NAMES
        held_out: list[LabelledRecording] = []
        if self.own:
            found, names = read_labelled(folder)
            recordings, kept = split(found)
            held_out = _views(kept, data / "held-out.npz", self.held_out, options.seed + 1)
        else:
            recordings = list(read_recordings(folder).values())
        views = _views(recordings, data / "views.npz", self.training, options.seed)
        classes = {"num_classes": len(names), "class_names": names}
        model = build(replace(self.model, **classes), seed=options.seed, longest_memory=LONGEST_MEMORY)  # type: ignore[arg-type]
        if options.init_from is not None:
            adopt(model, checkpoints.load(initial_model(options)).state_dict())
        teacher = build_dense(replace(self.dense, num_classes=len(names)), seed=options.seed)
        dense_train = replace(options.apply(self.dense_train), steps=self.dense_train.steps)
        yield detector_job(teacher, views, self.dense_streams, dense_train, name="dense")
        yield detector_job(
            model,
            views,
            self.streams,
            options.apply(self.train),
            export=partial(_export, recordings) if self.own else None,
            held_out=held_out,
            teacher=teacher,
        )


def split(
    found: Mapping[str, LabelledRecording],
) -> tuple[list[LabelledRecording], list[LabelledRecording]]:
    """(recordings to train on, held-out ones): every fifth is held out, or the last fifth of a single one's time."""
    recordings = list(found.values())
    if len(recordings) == 1:
        (only,) = recordings
        cut = int(0.8 * only.events.t[-1])
        return [_part(only, 0, cut)], [_part(only, cut, int(only.events.t[-1]) + 1)]
    every = min(HELD_OUT_EVERY, len(recordings))
    kept = recordings[every - 1 :: every]
    return [r for number, r in enumerate(recordings) if number % every != every - 1], kept


def _part(recording: LabelledRecording, start: int, end: int) -> LabelledRecording:
    events, boxes = recording.events.between(start, end), recording.boxes.between(start, end)
    times = recording.label_times
    return LabelledRecording(
        replace(events, t=events.t - start),
        replace(boxes, t=boxes.t - start),
        times[(times >= start) & (times < end)] - start,
    )


def _export(recordings: Sequence[LabelledRecording], model: Detector, folder: Path) -> None:
    """The model folder, with the domain of its recordings where they are long enough to tell it."""
    assert isinstance(model, SslaDet)
    checkpoints.save(model, folder)
    with suppress(InputError):
        domain.fit((recording.events for recording in recordings), "your recordings").save(folder)


HELD_OUT_EVERY: Final = 5
BURN_IN_US: Final = 50_000
MEMORY_US: Final = 200_000
"""Of the policy "auto". The views are no longer than 300 ms, and of what is older the network knows nothing: on five
training recordings 200 ms gave AP 0.351, no limit 0.225."""
_TRAIN = replace(SSLA_RECIPES["shapes"].train, steps=700)
RECIPES: Final[dict[str, RecordingsRecipe]] = {
    "street": RecordingsRecipe(
        replace(SIZES["ssla-s"], num_classes=len(CLASS_NAMES), class_names=CLASS_NAMES, memory_us=MEMORY_US),
        StreamConfig(
            read_outs=3, longest_us=300_000, max_events=8_000, burn_in_us=BURN_IN_US, symmetry="mirror"
        ),
        _TRAIN,
        DenseCnnConfig(num_classes=len(CLASS_NAMES)),
        StreamConfig(max_events=15_000, burn_in_us=BURN_IN_US, symmetry="mirror"),
        replace(_TRAIN, steps=1200, learning_rate=3e-3, optimizer="adamw"),
        training=1600,
    )
}
RECIPES["own"] = replace(RECIPES["street"], own=True)
# Under a minute: shows that recordings and labels are read and every part works.
RECIPES["own-smoke"] = replace(
    RECIPES["own"],
    model=SIZES["ssla-tiny"],
    streams=replace(RECIPES["own"].streams, streams=2, longest_us=150_000),
    train=replace(_TRAIN, steps=3, warmup_steps=1),
    dense_train=replace(RECIPES["own"].dense_train, steps=2, warmup_steps=1),
    training=8,
    held_out=2,
)


def adopt(model: SslaDet, tensors: Mapping[str, Tensor]) -> None:
    """Take over every tensor that fits; those of the classes do not where their number is another."""
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if tensor.shape == own[name].shape}
    model.load_state_dict({**own, **fitting})


def _views(
    recordings: Sequence[LabelledRecording], file: Path, count: int, seed: int
) -> list[LabelledRecording]:
    """Random views with a label late enough to learn from. Raises InputError: none has one."""
    if not file.is_file():
        views = street_views(recordings, count, seed=seed)
        late = [view for view in views if view.label_times.max(initial=0) > 2 * BURN_IN_US]
        if not late:
            raise InputError(
                f"no label comes later than {2 * BURN_IN_US / 1000:g} ms after the start of its recording; train needs "
                "longer recordings"
            )
        save_recordings(late, file)
    return load_recordings(file)
