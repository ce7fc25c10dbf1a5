"""Names and values that the commands share; nothing here takes time to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PROGRAM = "multiway-frame-interpolation"
BUNDLED_MODEL = "bundled:time-replayer-small"
SUB_FRAMES = 8  # that a simulated sensor sees for each frame of a video

Unit = Literal["us", "ms", "s", "ns"]


@dataclass(frozen=True)
class FramesFrom:
    """Where frames come from. fps: frames a second, instead of the file's own times. width: scales them down."""

    path: Path
    fps: float | None = None
    width: int | None = None


@dataclass(frozen=True)
class EventsFrom:
    """Where events come from: a recording, or a sensor simulated on the frames themselves.

    scale: what the recording's coordinates are multiplied with. offset: microseconds from the frames' zero to the
    events', which may be negative.
    """

    path: Path | None = None
    simulate: bool = False
    scale: int = 1
    offset: int = 0
    time_unit: Unit | None = None
    columns: str | None = None
    repair: bool = False
    seed: int = 0
