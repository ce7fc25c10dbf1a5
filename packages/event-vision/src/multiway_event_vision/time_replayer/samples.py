"""Training samples: frames of a video of which only every second one is read, and voxel grids of the events between.

The frames of a sample are `gap` frames of the video apart. The frames that are not read serve the supervised variant
only. A sample is a pure function of seed, step and shard.

Shape letters: B batch, S stretches of time, N bins, H W rows and columns; 3 is also a triplet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from multiway_core.errors import DataError
from numpy.typing import NDArray
from torch import Tensor

from multiway_event_vision.events import Events
from multiway_event_vision.time_replayer.clips import Clip
from multiway_event_vision.time_replayer.teacher import ChainedFlow
from multiway_event_vision.time_replayer.voxel_grid import voxel_grid

READ = 2  # every so many frames of a video are read
_PLACES = 3  # random crops, of which the one that changes most is taken
_POSITION = (0.1, 0.9)


@dataclass(frozen=True)
class SampleConfig:
    """size: of the square crop in pixels. gaps: between the frames of a sample, multiples of `READ`, each as likely.

    drop_second: share of samples without the frame after, for extrapolation.
    """

    size: int = 112
    batch: int = 4
    gaps: tuple[int, ...] = (2, 4, 8)
    bins: int = 5
    drop_second: float = 0.25
    supervised: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Triplets:
    """Frames 0, 1 and 2, and a time at `position` of the way, between 0 and 1 as well as between 1 and 2.

    grids_BSNHW: of the stretches 0 to t, t to 1, 1 to 1+t, 1+t to 2, 0 to 1, 1 to 2. truth_B2CHW: the frames at t and
    1+t, in the supervised variant. Frames are (B, 3, 3, H, W) uint8.
    """

    frames_B3CHW: Tensor
    grids_BSNHW: Tensor
    position_B: Tensor
    has_second_B: Tensor
    truth_B2CHW: Tensor | None = None


@dataclass(frozen=True)
class Pairs:
    """Two frames (B, 2, 3, H, W) uint8, the grid of the events between them, and a teacher's flows in pixels.

    ahead: where the first frame's pixels are in the second; back: where the second's are in the first.
    """

    frames_B2CHW: Tensor
    grid_BNHW: Tensor
    ahead_B2HW: Tensor
    back_B2HW: Tensor


class PairSource:
    """A `BatchSource` of pairs over clips with recordings."""

    def __init__(self, clips: Sequence[Clip], config: SampleConfig) -> None:
        """Raises DataError: a clip is too short, too small or has no recording."""
        _check(clips, config, frames=1)
        self.clips, self.config = clips, config
        self.teachers = [ChainedFlow(clip, READ) for clip in clips]

    def __call__(self, step: int, shard: int, num_shards: int) -> Pairs:
        """The batch of a shard of a step."""
        generator = np.random.default_rng([self.config.seed, step, shard])
        samples = [self._sample(generator) for _ in range(self.config.batch)]
        return Pairs(*(torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True)))

    def _sample(self, generator: np.random.Generator) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        number = int(generator.integers(len(self.clips)))
        clip, teacher = self.clips[number], self.teachers[number]
        first, second = _frames(generator, clip, self.config, frames=1)
        rows, columns = moving_place(generator, clip, (first, second), self.config.size)
        events = clip.recordings[generator.integers(len(clip.recordings))]
        start, end = int(clip.times_T[first]), int(clip.times_T[second])
        grid_NHW = voxel_grid(
            crop_events(events.between(start, end), rows, columns), start, end, self.config.bins
        )
        turn = SquareTurn(generator)
        frames_2HWC = clip.frames_THW3[[first, second], rows, columns]
        return (
            turn(frames_2HWC.transpose(0, 3, 1, 2)),
            turn(grid_NHW),
            turn.flow(teacher.flow(first, second, rows, columns)),
            turn.flow(teacher.flow(second, first, rows, columns)),
        )


class TripletSource:
    """A `BatchSource` of triplets over clips with recordings."""

    def __init__(self, clips: Sequence[Clip], config: SampleConfig) -> None:
        """Raises DataError: a clip is too short, too small or has no recording."""
        _check(clips, config, frames=2)
        self.clips, self.config = clips, config

    def __call__(self, step: int, shard: int, num_shards: int) -> Triplets:
        """The batch of a shard of a step."""
        generator = np.random.default_rng([self.config.seed, step, shard])
        samples = [self._sample(generator) for _ in range(self.config.batch)]
        frames, grids, positions, has_second, truths = zip(*samples, strict=True)
        return Triplets(
            torch.from_numpy(np.stack(frames)),
            torch.from_numpy(np.stack(grids)),
            torch.tensor(positions, dtype=torch.float32),
            torch.tensor(has_second),
            torch.from_numpy(np.stack(truths)) if self.config.supervised else None,
        )

    def _sample(self, generator: np.random.Generator) -> tuple[NDArray, NDArray, float, bool, NDArray]:
        config = self.config
        clip = self.clips[int(generator.integers(len(self.clips)))]
        indices = _frames(generator, clip, config, frames=2)
        gap = indices[1] - indices[0]
        events = clip.recordings[generator.integers(len(clip.recordings))]
        rows, columns = moving_place(generator, clip, (indices[0], indices[2]), config.size)

        if config.supervised:
            step = int(generator.integers(1, gap))
            position = step / gap
            inner = [indices[0] + step, indices[1] + step]
        else:
            position = float(generator.uniform(*_POSITION))
            inner = []
        ends = [int(clip.times_T[index]) for index in indices]
        middle = [round(ends[i] + position * (ends[i + 1] - ends[i])) for i in (0, 1)]
        if inner:
            middle = [int(clip.times_T[index]) for index in inner]
        stretches = [
            (ends[0], middle[0]),
            (middle[0], ends[1]),
            (ends[1], middle[1]),
            (middle[1], ends[2]),
            (ends[0], ends[1]),
            (ends[1], ends[2]),
        ]
        cropped = crop_events(events.between(ends[0], ends[2]), rows, columns)
        grids_SNHW = np.stack(
            [voxel_grid(cropped.between(low, high), low, high, config.bins) for low, high in stretches]
        )
        frames_3HWC = clip.frames_THW3[indices, rows, columns]
        truth_2HWC = clip.frames_THW3[inner, rows, columns] if inner else frames_3HWC[:0]
        turn = SquareTurn(generator)
        return (
            turn(frames_3HWC.transpose(0, 3, 1, 2)),
            turn(grids_SNHW),
            position,
            bool(generator.random() >= config.drop_second),
            turn(truth_2HWC.transpose(0, 3, 1, 2)),
        )


def _check(clips: Sequence[Clip], config: SampleConfig, frames: int) -> None:
    """Raises DataError: a clip has not so many frames behind a first one, is too small or has no recording."""
    for clip in clips:
        least = frames * min(config.gaps) + 1
        if len(clip) < least or min(clip.height, clip.width) < config.size or not clip.recordings:
            raise DataError(
                f"{clip.name}: {len(clip)} frames of {clip.width} x {clip.height} pixels to train on; "
                f"expected {least} or more of {config.size} or more a side"
            )


def _frames(generator: np.random.Generator, clip: Clip, config: SampleConfig, frames: int) -> list[int]:
    """A first frame and `frames` more, a gap apart, all of those that are read."""
    gap = int(generator.choice([gap for gap in config.gaps if frames * gap < len(clip)]))
    first = READ * int(generator.integers((len(clip) - frames * gap - 1) // READ + 1))
    return [first + number * gap for number in range(frames + 1)]


def moving_place(
    generator: np.random.Generator, clip: Clip, ends: tuple[int, int], size: int
) -> tuple[slice, slice]:
    """Rows and columns of a crop. Most places of most videos do not move at all."""
    places, changes = [], []
    for _ in range(_PLACES):
        top = int(generator.integers(clip.height - size + 1))
        left = int(generator.integers(clip.width - size + 1))
        rows, columns = slice(top, top + size), slice(left, left + size)
        start, end = (clip.frames_THW3[index, rows, columns, 1].astype(np.int16) for index in ends)
        places.append((rows, columns))
        changes.append(np.abs(start - end).mean())
    return places[int(np.argmax(changes))]


class SquareTurn:
    """One of the eight ways to turn and mirror a square, for the last two axes."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.mirror_rows, self.mirror_columns, self.transpose = generator.integers(2, size=3)

    def __call__(self, array: NDArray) -> NDArray:
        if self.mirror_rows:
            array = array[..., ::-1, :]
        if self.mirror_columns:
            array = array[..., ::-1]
        if self.transpose:
            array = array.swapaxes(-1, -2)
        return np.ascontiguousarray(array)

    def flow(self, flow_2HW: NDArray) -> NDArray:
        """A flow's directions turn with its places."""
        x_HW, y_HW = (self(component_HW) for component_HW in flow_2HW)
        x_HW, y_HW = (-x_HW if self.mirror_columns else x_HW), (-y_HW if self.mirror_rows else y_HW)
        return np.stack((y_HW, x_HW) if self.transpose else (x_HW, y_HW))


def crop_events(events: Events, rows: slice, columns: slice) -> Events:
    """The events of some rows and columns, on a sensor of that size."""
    inside = (events.x >= columns.start) & (events.x < columns.stop)
    inside &= (events.y >= rows.start) & (events.y < rows.stop)
    kept = events[np.flatnonzero(inside)]
    return Events(
        kept.t,
        kept.x - np.uint16(columns.start),
        kept.y - np.uint16(rows.start),
        kept.p,
        columns.stop - columns.start,
        rows.stop - rows.start,
    )
