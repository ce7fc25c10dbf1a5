"""The comparison of He et al. (2020): every network with both losses, at several step lengths, over seeds.

The number of steps stays when their length changes, as in the paper's scripts, so short steps also see less of a
recording. Data, order of batches and initial weights depend on seeds alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from multiway_core.errors import ConfigError
from numpy.typing import NDArray

from multiway_event_vision.recurrent.digits import digits
from multiway_event_vision.recurrent.event_set import EventSet
from multiway_event_vision.recurrent.gestures import gestures
from multiway_event_vision.recurrent.networks import KINDS, Kind, NetworkConfig, build
from multiway_event_vision.recurrent.objective import LOSSES, Loss
from multiway_event_vision.recurrent.operations import operations
from multiway_event_vision.recurrent.recipe import TrainingConfig, accuracy, batch_of, train

DataName = Literal["digits", "gestures"]
Form = Literal["dense", "conv"]
NATIVE_US: dict[str, int] = {"digits": 5_000, "gestures": 20_000}
"""Step length of the scripts' digits (15 steps of 5 ms); 15 steps that cover a whole gesture."""
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class ComparisonConfig:
    """Sizes of the comparison. Published: 512 hidden units; (64, 128) channels before 256; 100 passes."""

    seeds: int = 3
    steps: int = 15
    digit_steps_us: tuple[int, ...] = (1_000, 2_000, 5_000, 10_000)
    shrink: int = 2
    """Frames have so many pixels a side joined into one: 17 x 17 (digits), 16 x 16 (gestures)."""
    hidden: int = 128
    channels: tuple[int, ...] = (4, 8)
    conv_hidden: int = 64
    digits: int | None = None
    """How many, None for all 1,797."""
    gestures_each: int = 100
    training: TrainingConfig = field(default_factory=TrainingConfig)
    passes: int = 6
    """Over the digits; twice as many over the gestures, which are fewer."""

    def __post_init__(self) -> None:
        if min(self.seeds, self.steps, self.shrink, *self.digit_steps_us) < 1:
            raise ConfigError(f"{self}: seeds, steps and their lengths must be at least 1")

    def quick(self) -> ComparisonConfig:
        """A minute's worth: one seed, a part of the data, narrow networks."""
        return ComparisonConfig(
            seeds=1,
            digit_steps_us=(5_000,),
            hidden=32,
            channels=(2, 2),
            conv_hidden=32,
            digits=300,
            gestures_each=15,
        )


@dataclass(frozen=True)
class Cell:
    """One training run of the table."""

    data: DataName
    form: Form
    kind: Kind
    loss: Loss
    dt_us: int
    seed: int


@dataclass(frozen=True)
class Result:
    """What a cell gave. Operations are those of one test sample, see `operations.Operations`."""

    cell: Cell
    accuracy: float
    train_loss: float
    parameters: int
    dense_macs: float
    macs: float
    additions: float
    spike_rate: float | None
    cpu_seconds: float


def cells(config: ComparisonConfig) -> Iterator[Cell]:
    """All runs, seed after seed and dense before convolutional, so that an early end leaves whole tables."""
    native = NATIVE_US
    for seed in range(config.seeds):
        for loss in LOSSES:
            for kind in KINDS:
                for dt_us in config.digit_steps_us:
                    # The control without memory is asked once: can these digits be told without any?
                    if kind != "memoryless" or dt_us == native["digits"]:
                        yield Cell("digits", "dense", kind, loss, dt_us, seed)
                yield Cell("gestures", "dense", kind, loss, native["gestures"], seed)
    for seed in range(config.seeds if config.channels else 0):
        for loss in LOSSES:
            for kind in KINDS[:3]:
                yield Cell("digits", "conv", kind, loss, native["digits"], seed)
                yield Cell("gestures", "conv", kind, loss, native["gestures"], seed)


class Comparison:
    """Data sets in `folder` (made when they are not there), and the runs on them. Raises DataError, InputError."""

    def __init__(self, config: ComparisonConfig, folder: Path) -> None:
        self.config = config
        self.sets = {
            "digits": _kept(folder / f"digits-{config.digits or 'all'}.npz", self._digits),
            "gestures": _kept(folder / f"gestures-{config.gestures_each}.npz", self._gestures),
        }
        self._frames = lru_cache(maxsize=8)(self._make_frames)

    def run(self, cell: Cell) -> Result:
        """Train and test one cell."""
        started = time.process_time()
        config, is_conv = self.config, cell.form == "conv"
        frames_NT = self._frames(cell.data, cell.dt_us)
        labels_N = self.sets[cell.data].label_N
        train_count = len(labels_N) - round(_TEST_SHARE * len(labels_N))
        network = build(
            NetworkConfig(
                kind=cell.kind,
                size=(frames_NT.shape[3], frames_NT.shape[4]),
                classes=int(labels_N.max()) + 1,
                hidden=config.conv_hidden if is_conv else config.hidden,
                channels=config.channels if is_conv else (),
            ),
            seed=cell.seed,
        )
        recipe = replace(config.training, passes=config.passes * (2 if cell.data == "gestures" else 1))
        train_part, test_part = slice(None, train_count), slice(train_count, None)
        final = train(network, frames_NT[train_part], labels_N[train_part], cell.loss, recipe, seed=cell.seed)
        found = accuracy(network, frames_NT[test_part], labels_N[test_part], cell.loss)
        with torch.no_grad():
            counted = np.arange(train_count, min(train_count + 64, len(labels_N)))
            count = operations(network, network(batch_of(frames_NT, counted)))
        return Result(
            cell,
            found,
            final,
            sum(parameter.numel() for parameter in network.parameters()),
            **asdict(count),
            cpu_seconds=time.process_time() - started,
        )

    def _make_frames(self, data: str, dt_us: int) -> NDArray[np.uint8]:
        return self.sets[data].frames(dt_us, self.config.steps, shrink=self.config.shrink)

    def _digits(self) -> EventSet:
        return digits(max_samples=self.config.digits)

    def _gestures(self) -> EventSet:
        return gestures(each=self.config.gestures_each)


def _kept(path: Path, make: Callable[[], EventSet]) -> EventSet:
    if not path.is_file():
        make().save(path)
    return EventSet.load(path)
