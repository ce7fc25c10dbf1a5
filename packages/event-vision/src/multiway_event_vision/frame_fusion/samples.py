"""Training samples: frames that were left out of clips, with the candidates for them.

A sample is a pure function of seed, step and shard. Shape letters: B batch, K candidates, C features, H W rows and
columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from multiway_core.errors import DataError
from numpy.typing import NDArray
from torch import Tensor

from multiway_event_vision.events import Events, joined
from multiway_event_vision.frame_fusion.candidates import GapCandidates
from multiway_event_vision.time_replayer.clips import Clip
from multiway_event_vision.time_replayer.frames import Frame
from multiway_event_vision.time_replayer.samples import SquareTurn, crop_events, moving_place

TIMES = 2  # of a gap, that its flow is found for once


@dataclass(frozen=True)
class FusionSamples:
    """size: of the square crops, pixels; margin: around them, which flow sees. gaps: between two frames kept, frames.

    spoiled: share of samples whose events are not what they should be, in up to three ways at once, so that the network
    knows when not to trust them: none at all, many missing (everywhere, or more at some pixels than at others), noise
    among them, hot pixels, seen from beside, or too late.
    """

    size: int = 96
    margin: int = 40
    gaps_a_batch: int = 4
    gaps: tuple[int, ...] = (2, 2, 4, 8)
    spoiled: float = 0.5
    seed: int = 0


class FusionBatch(NamedTuple):
    """images (B, K, 3, H, W) uint8, features float32, truth (B, 3, H, W) uint8."""

    images_BK3HW: Tensor
    features_BCHW: Tensor
    truth_B3HW: Tensor


class FusionSource:
    """A `BatchSource` over clips with recordings."""

    def __init__(self, clips: Sequence[Clip], config: FusionSamples) -> None:
        """Raises DataError: a clip is too short, too small or has no recording."""
        for clip in clips:
            if (
                len(clip) <= min(config.gaps)
                or min(clip.height, clip.width) < config.size
                or not clip.recordings
            ):
                raise DataError(
                    f"{clip.name}: {len(clip)} frames of {clip.width} x {clip.height} pixels to train on; expected "
                    f"{min(config.gaps) + 1} or more of {config.size} or more a side"
                )
        self.clips, self.config = clips, config

    def __call__(self, step: int, shard: int, num_shards: int) -> FusionBatch:
        """The batch of a shard of a step."""
        generator = np.random.default_rng([self.config.seed, step, shard])
        samples = [sample for _ in range(self.config.gaps_a_batch) for sample in self._gap_samples(generator)]
        return FusionBatch(*(torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True)))

    def _gap_samples(self, generator: np.random.Generator) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
        config = self.config
        clip = self.clips[int(generator.integers(len(self.clips)))]
        gap = int(generator.choice([gap for gap in config.gaps if gap < len(clip)]))
        low = int(generator.integers(len(clip) - gap))
        rows, columns = moving_place(generator, clip, (low, low + gap), config.size)
        wide = tuple(
            slice(max(0, inner.start - config.margin), min(size, inner.stop + config.margin))
            for inner, size in ((rows, clip.height), (columns, clip.width))
        )
        start, end = int(clip.times_T[low]), int(clip.times_T[low + gap])
        recording = clip.recordings[generator.integers(len(clip.recordings))]
        events = crop_events(recording.between(start, end), *wide)
        if generator.random() < config.spoiled:
            events = spoiled(events, start, end, generator)
        first, second = (
            Frame(clip.frames_THW3[index][wide], t) for index, t in ((low, start), (low + gap, end))
        )
        candidates = GapCandidates(first, second, events)
        turn = SquareTurn(generator)
        inside = tuple(
            slice(inner.start - outer.start, inner.stop - outer.start)
            for inner, outer in zip((rows, columns), wide, strict=True)
        )
        for step in generator.choice(np.arange(1, gap), min(TIMES, gap - 1), replace=False):
            made = candidates.at(int(clip.times_T[low + step]))
            truth_HW3 = clip.frames_THW3[low + step, rows, columns]
            yield (
                turn(made.images_KHW3[:, *inside].transpose(0, 3, 1, 2)),
                turn(made.features_CHW[:, *inside]),
                turn(truth_HW3.transpose(2, 0, 1)),
            )


def spoiled(events: Events, start: int, end: int, generator: np.random.Generator) -> Events:
    """The events of start to end (microseconds) as a bad sensor, mount or clock would give them."""
    if generator.random() < 0.15:
        return events[:0]
    for kind in generator.choice(len(_SPOILS), int(generator.integers(1, 4)), replace=False):
        events = _SPOILS[kind](events, start, end, generator)
    return events


def _thinned(events: Events, start: int, end: int, generator: np.random.Generator) -> Events:
    return events[np.flatnonzero(generator.random(len(events)) < generator.uniform(0.2, 0.8))]


def _uneven(events: Events, start: int, end: int, generator: np.random.Generator) -> Events:
    """Every pixel and polarity keeps a share of its own, as where thresholds differ."""
    kept_P = generator.beta(2, generator.uniform(0.3, 2), 2 * events.width * events.height)
    pixels_E = (events.p.astype(np.int64) * events.height + events.y) * events.width + events.x
    return events[np.flatnonzero(generator.random(len(events)) < kept_P[pixels_E])]


def _late(events: Events, start: int, end: int, generator: np.random.Generator) -> Events:
    late = round(float(generator.uniform(-0.3, 0.3)) * (end - start))
    moved = Events(events.t + late, events.x, events.y, events.p, events.width, events.height)
    return moved.between(start, end)


def _with_noise(events: Events, start: int, end: int, generator: np.random.Generator) -> Events:
    count = round(float(generator.uniform(0.1, 1.0)) * (len(events) + 1000))
    noise = Events(
        np.sort(generator.integers(start, end, count)),
        generator.integers(events.width, size=count).astype(np.uint16),
        generator.integers(events.height, size=count).astype(np.uint16),
        generator.integers(2, size=count).astype(np.uint8),
        events.width,
        events.height,
    )
    return _in_order(joined([events, noise]))


def _hot(events: Events, start: int, end: int, generator: np.random.Generator) -> Events:
    """A few pixels send all the time."""
    pixels = generator.integers(events.width * events.height, size=int(generator.integers(1, 60)))
    at = np.repeat(pixels, generator.poisson(generator.uniform(1, 20), len(pixels)))
    y, x = np.divmod(at, events.width)
    hot = Events(
        np.sort(generator.integers(start, end, len(at))),
        x.astype(np.uint16),
        y.astype(np.uint16),
        generator.integers(2, size=len(at)).astype(np.uint8),
        events.width,
        events.height,
    )
    return _in_order(joined([events, hot]))


def _in_order(events: Events) -> Events:
    return events[np.argsort(events.t, kind="stable")]


def _shifted(events: Events, start: int, end: int, generator: np.random.Generator) -> Events:
    right, down = generator.integers(-3, 4, 2)
    x_E, y_E = events.x.astype(np.int64) + right, events.y.astype(np.int64) + down
    inside_E = np.flatnonzero((x_E >= 0) & (x_E < events.width) & (y_E >= 0) & (y_E < events.height))
    return Events(
        events.t[inside_E],
        x_E[inside_E].astype(np.uint16),
        y_E[inside_E].astype(np.uint16),
        events.p[inside_E],
        events.width,
        events.height,
    )


_SPOILS: Final = (_thinned, _uneven, _with_noise, _hot, _shifted, _late)
