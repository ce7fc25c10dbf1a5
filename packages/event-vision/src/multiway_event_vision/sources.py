"""Opening whatever can be made a stream of events: a recording, a video, a folder of pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, Literal

from multiway_core.errors import InputError

from multiway_event_vision.events import EventStream
from multiway_event_vision.formats import open_events
from multiway_event_vision.formats.time_unit import TimeUnit
from multiway_event_vision.simulator import (
    FlowUpsampled,
    FrameSource,
    ImageFolder,
    SensorConfig,
    Simulation,
    Video,
)

VIDEO_ENDINGS: Final = frozenset({".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm", ".wmv"})
LARGEST_WIDTH: Final = 304
"""Pixels that a wider video is scaled down to unless a width is given: what the sensor of Gen1 has."""
MIN_RATE: Final = 160.0
"""Frames a second, with those put in along optical flow between a video's own; as the recordings for training."""


def is_video(path: Path | str) -> bool:
    """Whether events of `path` have to be simulated: a video by its name's ending, or a folder."""
    path = Path(path)
    return path.is_dir() or path.suffix.lower() in VIDEO_ENDINGS


def open_source(
    path: Path | str,
    *,
    size: tuple[int, int] | Literal["infer"] | None = None,
    time_unit: TimeUnit | None = None,
    columns: str | None = None,
    repair: bool = False,
    width: int | None = None,
    upsample: int | None = None,
    sensor: SensorConfig | None = None,
    seed: int = 0,
) -> EventStream:
    """A recording (arguments as `open_events`), or the events of a video or a folder of pictures.

    width: pixels that a video is scaled to, its own but at most `LARGEST_WIDTH` unless given. upsample: frames for each
    of its own, along optical flow; as many as make `MIN_RATE` unless given, and 1 of a folder. sensor, seed: as
    `Simulation`.

    Raises DataError: unreadable; InputError: a bad argument, or one that a video or a recording cannot have.
    """
    path = Path(path)
    if not is_video(path):
        if width is not None:
            raise InputError(f"{path}: a recording has the width of its sensor; a width is for videos")
        return open_events(path, size=size, time_unit=time_unit, columns=columns, repair=repair)
    if size is not None or time_unit is not None or columns is not None or repair:
        raise InputError(
            f"{path}: events of pictures are simulated; size, time unit, columns and repair are for recordings"
        )
    return simulated(path, width=width, upsample=upsample, sensor=sensor, seed=seed)


def simulated(
    path: Path,
    *,
    width: int | None = None,
    upsample: int | None = None,
    fps: float | None = None,
    sensor: SensorConfig | None = None,
    seed: int = 0,
) -> Simulation:
    """The events of a video or a folder of pictures; arguments as `open_source`. fps: instead of the file's times.

    Raises DataError: unreadable; InputError: a width for a folder.
    """
    frames: FrameSource
    if path.is_dir():
        if width is not None:
            raise InputError(f"{path}: pictures of a folder are taken as they are; a width is for videos")
        frames = ImageFolder(path, frames_per_second=fps)
    else:
        frames = Video(path, width=width, frames_per_second=fps)
        if width is None and frames.width > LARGEST_WIDTH:
            frames = Video(path, width=LARGEST_WIDTH, frames_per_second=fps)
        if upsample is None:
            upsample = math.ceil(MIN_RATE / frames.frames_per_second)
    if upsample is not None and upsample != 1:
        frames = FlowUpsampled(frames, upsample)
    return Simulation(frames, sensor or SensorConfig(), seed)
