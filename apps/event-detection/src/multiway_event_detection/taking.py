"""Opening what the command line names, and showing how far the reading is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from multiway_core.errors import DataError
from multiway_event_vision.events import Events, EventStream
from multiway_event_vision.formats import Recording, open_events
from multiway_event_vision.formats.recording import CHUNK_EVENTS

from multiway_event_detection.options import Taking, sensor_size

Progress = Callable[[int], None]


def open_recording(path: Path, taking: Taking, *, infer_size: bool = False) -> tuple[Recording, bool]:
    """(the recording, whether its sensor's size was inferred from its events).

    infer_size: infer it, at the cost of one reading, where neither the file nor ``taking`` tells it. Otherwise, and
    for a file that is bad in another way, raises DataError; InputError for a bad option.
    """
    size: tuple[int, int] | Literal["infer"] | None = None
    if taking.size is not None:
        size = "infer" if taking.size == "infer" else sensor_size(taking.size)

    def opened(size: tuple[int, int] | Literal["infer"] | None) -> Recording:
        return open_events(
            path, size=size, time_unit=taking.time_unit, columns=taking.columns, repair=taking.repair
        )

    try:
        return opened(size), size == "infer"
    except DataError:
        if size is not None or not infer_size:
            raise
    # Without a size, or bad: what is bad is bad once more.
    return opened("infer"), True


@dataclass
class Watched:
    """``stream``, with the events counted as they go by."""

    stream: EventStream
    on_progress: Progress | None = None
    count: int = 0

    @property
    def width(self) -> int:
        """Pixels."""
        return self.stream.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.stream.height

    def chunks(self, chunk_events: int = CHUNK_EVENTS) -> Iterator[Events]:
        """The stream's chunks; counting starts anew."""
        self.count = 0
        for events in self.stream.chunks(chunk_events):
            self.count += len(events)
            if self.on_progress is not None:
                self.on_progress(self.count)
            yield events
