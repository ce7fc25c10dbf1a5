"""Opens the events of frames and scales their coordinates to the frames' pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from multiway_core.errors import InputError

from multiway_event_vision.formats import Recording, open_events
from multiway_event_vision.formats.source import Columns, Source
from multiway_event_vision.formats.time_unit import TimeUnit

_SCALES = (32, 64, 128, 2, 4, 8, 16)  # Time Lens' data sets have 32, CBMNet's 128
_MAX_SCALE = 1024


def open_frame_events(
    path: Path,
    width: int,
    height: int,
    *,
    scale: int = 1,
    time_unit: TimeUnit | None = None,
    columns: str | None = None,
    repair: bool = False,
) -> Recording:
    """A recording whose events lie on frames of `width` x `height` pixels, their coordinates divided by `scale`.

    The other arguments are those of `open_events`. Raises InputError: the sensor, or the first events, are of another
    size (the message tells a scale that would fit); DataError as `open_events`.
    """
    if not 1 <= scale <= _MAX_SCALE:
        raise InputError(f"coordinates multiplied by {scale}; expected 1 to {_MAX_SCALE}")
    recording = open_events(path, size=(width, height), time_unit=time_unit, columns=columns, repair=repair)
    if scale > 1:
        recording = replace(recording, source=_divided(recording.source, scale))
    told = recording.source.size
    if told is not None and told != (width, height):
        raise InputError(
            f"{path}: events of a sensor of {told[0]} x {told[1]} pixels for frames of {width} x {height}; "
            f"{_advice(told, (width, height))}"
        )
    first = next(islice(recording.source.columns(), 1), None)
    if first is not None and len(first.t):
        reached = int(np.max(first.x)) + 1, int(np.max(first.y)) + 1
        if (reached[0] > width or reached[1] > height) and not repair:
            raise InputError(
                f"{path}: events reach ({reached[0] - 1}, {reached[1] - 1}) for frames of {width} x {height} pixels; "
                f"{_advice(reached, (width, height))}"
            )
    return recording


def _divided(source: Source, scale: int) -> Source:
    def columns() -> Iterator[Columns]:
        for found in source.columns():
            yield found._replace(x=found.x // scale, y=found.y // scale)

    size = source.size and ((source.size[0] - 1) // scale + 1, (source.size[1] - 1) // scale + 1)
    return replace(source, columns=columns, size=size)


def _advice(reached: tuple[int, int], size: tuple[int, int]) -> str:
    for scale in _SCALES:
        sides = [(side - 1) // scale + 1 for side in reached]
        if all(side / 2 < found <= side for found, side in zip(sides, size, strict=True)):
            return f"they seem to be multiplied by {scale}: give that as the scale of events"
    return "frames and events must show the same pixels: scale the frames to the sensor's width"
