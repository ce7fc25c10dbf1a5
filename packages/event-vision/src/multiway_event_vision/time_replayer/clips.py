"""Clips in memory, and their events from a simulated sensor whose parameters are unknown to all methods.

The sensor sees more frames than the clip has: along optical flow between its frames, which are a guess that gives the
events their times; at the clip's own frames it sees what was filmed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray

from multiway_event_vision.events import Events, concatenate
from multiway_event_vision.simulator import FlowUpsampled, MovingShapes, Sensor, SensorConfig, ShapesConfig
from multiway_event_vision.time_replayer.frames import Frame, Frames, Grey

SUB_FRAMES = 8  # that the sensor is shown for each frame
_THRESHOLD = (0.1, 0.5)
_OFF_TO_ON = (0.8, 1.25)
_NOISE_HZ = (1.0, 5.0)


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames (T, H, W, 3) uint8, their times (T,) int64 in microseconds, and recordings of them, one a sensor."""

    name: str
    frames_THW3: NDArray[np.uint8]
    times_T: NDArray[np.int64]
    recordings: tuple[Events, ...] = ()

    def __len__(self) -> int:
        return len(self.times_T)

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.frames_THW3.shape[2])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.frames_THW3.shape[1])

    @property
    def rate(self) -> float:
        """Frames a second, on average."""
        return float((len(self) - 1) * 1e6 / (self.times_T[-1] - self.times_T[0]))

    def frames(self) -> Iterator[Frame]:
        """Yield them; a clip is a `Frames`."""
        for index in range(len(self)):
            yield self.frame(index)

    def frame(self, index: int) -> Frame:
        """One frame with its time."""
        return Frame(self.frames_THW3[index], int(self.times_T[index]))


def read_clip(name: str, source: Frames, *, max_frames: int | None = None) -> Clip:
    """The first `max_frames` of a source in memory. Raises DataError: fewer than two."""
    frames = list(islice(source.frames(), max_frames))
    if len(frames) < 2:
        raise DataError(f"{name}: has {len(frames)} frame; expected 2 or more")
    return Clip(
        name, np.stack([frame.image_HW3 for frame in frames]), np.array([frame.t for frame in frames])
    )


def drawn_clip(seed: int = 0, frames: int = 25) -> Clip:
    """Drawn shapes that move over moving ground, in grey, 160 x 120 pixels at 60 frames a second."""
    duration = (frames - 1) * 16_667
    scene = MovingShapes(
        ShapesConfig(width=160, height=120, duration_us=duration, frames_per_second=60), seed=seed
    )
    drawn = list(scene.frames())
    images = np.stack([np.rint(255 * grey_HW).astype(np.uint8) for grey_HW, _ in drawn])
    return Clip("moving shapes", images[..., None].repeat(3, -1), np.array([t for _, t in drawn]))


def cut(clip: Clip, start: float, end: float) -> Clip:
    """The frames from the share `start` of a clip to the share `end`, without recordings."""
    low, high = round(start * len(clip)), round(end * len(clip))
    return Clip(clip.name, clip.frames_THW3[low:high], clip.times_T[low:high])


def hidden_sensor(seed: Sequence[int]) -> SensorConfig:
    """A sensor whose thresholds, their ratio, and noise are drawn at random; dead for a millisecond after an event."""
    generator = np.random.default_rng(seed)
    threshold = generator.uniform(*_THRESHOLD)
    return SensorConfig(
        threshold_on=threshold,
        threshold_off=max(threshold * generator.uniform(*_OFF_TO_ON), _THRESHOLD[0] / 2),
        threshold_sigma=0.05,
        min_threshold=_THRESHOLD[0] / 2,
        leak_hz=0.1,
        noise_hz=generator.uniform(*_NOISE_HZ),
        refractory_us=1000,
    )


def record(
    clip: Clip, configs: Sequence[SensorConfig], *, seed: int = 0, sub_frames: int = SUB_FRAMES
) -> Clip:
    """The clip with what sensors of these properties send while they see it."""
    width, height = clip.width, clip.height
    sensors = [Sensor(width, height, config, seed=seed + number) for number, config in enumerate(configs)]
    parts: list[list[Events]] = [[Events.empty(width, height)] for _ in sensors]
    for grey_HW, t in FlowUpsampled(Grey(clip), sub_frames).frames():
        for sensor, found in zip(sensors, parts, strict=True):
            found.append(sensor.show(grey_HW, t))
    return Clip(clip.name, clip.frames_THW3, clip.times_T, tuple(concatenate(found) for found in parts))


def clip_name(path: Path) -> str:
    """What a clip from a file is called."""
    return path.stem or path.name
