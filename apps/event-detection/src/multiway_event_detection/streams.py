"""Opening what the command line names, and showing how far the reading is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from multiway_core.errors import DataError, InputError
from multiway_event_vision.events import Events, EventStream
from multiway_event_vision.formats import Recording, open_events
from multiway_event_vision.formats.recording import CHUNK_EVENTS
from multiway_event_vision.simulator import FlowUpsampled, Simulation
from multiway_event_vision.sources import is_video, open_source

from multiway_event_detection.options import RecordingOptions, SimulationOptions, sensor_size

Progress = Callable[[int], None]


def open_recording(
    path: Path, recording_options: RecordingOptions, *, infer_size: bool = False
) -> tuple[Recording, bool]:
    """(the recording, whether its sensor's size was inferred from its events).

    infer_size: infer it, at the cost of one reading, where neither the file nor ``taking`` tells it. Otherwise, and
    for a file that is bad in another way, raises DataError; InputError for a bad option.
    """
    size: tuple[int, int] | Literal["infer"] | None = None
    if recording_options.size is not None:
        size = "infer" if recording_options.size == "infer" else sensor_size(recording_options.size)

    def opened(size: tuple[int, int] | Literal["infer"] | None) -> Recording:
        return open_events(
            path,
            size=size,
            time_unit=recording_options.time_unit,
            columns=recording_options.columns,
            repair=recording_options.repair,
        )

    try:
        return opened(size), size == "infer"
    except DataError:
        if size is not None or not infer_size:
            raise
    # Without a size, or bad: what is bad is bad once more.
    return opened("infer"), True


def open_stream(
    path: Path, recording_options: RecordingOptions, simulated: SimulationOptions
) -> tuple[EventStream, list[str]]:
    """(the events of a recording, a video or a folder of pictures; lines about what was done for it).

    Raises DataError: it cannot be read; InputError: an option of the other kind.
    """
    if not is_video(path):
        if simulated != SimulationOptions():
            raise InputError(f"--width, --upsample and --seed are for videos and pictures; {path} is neither")
        recording, is_inferred = open_recording(path, recording_options, infer_size=True)
        size = f"{recording.width}x{recording.height}"
        return recording, [f"no sensor size in {path}; from its events: {size}"] if is_inferred else []
    if recording_options != RecordingOptions():
        raise InputError(
            f"--size, --time-unit, --columns and --repair are for recordings; {path} has pictures"
        )
    if simulated.upsample is not None and not 1 <= simulated.upsample <= 1000:
        raise InputError(f"--upsample {simulated.upsample}: expected 1 to 1000")
    stream = open_source(path, width=simulated.width, upsample=simulated.upsample, seed=simulated.seed or 0)
    source = stream.source if isinstance(stream, Simulation) else None
    between = ""
    if isinstance(source, FlowUpsampled):
        between = f", {source.factor} frames along optical flow for each of its own"
    return stream, [f"{path}: events simulated, {stream.width} x {stream.height} pixels{between}"]


@dataclass(frozen=True)
class _TimeSlice:
    """A part of ``stream``."""

    stream: EventStream
    start: int
    end: int | None

    @property
    def width(self) -> int:
        return self.stream.width

    @property
    def height(self) -> int:
        return self.stream.height

    def chunks(self, chunk_events: int = CHUNK_EVENTS) -> Iterator[Events]:
        first: int | None = None
        for events in self.stream.chunks(chunk_events):
            if first is None:
                first = int(events.t[0])
            last = int(events.t[-1])
            part = events.between(first + self.start, last + 1 if self.end is None else first + self.end)
            if len(part):
                yield part
            if self.end is not None and last >= first + self.end:
                return


def time_slice(stream: EventStream, start: int, end: int | None) -> EventStream:
    """The events with start <= time after the first one < end, in microseconds. Raises InputError."""
    if end is not None and end <= start:
        raise InputError(f"--start {start} us, --end {end} us: expected the start before the end")
    return stream if start == 0 and end is None else _TimeSlice(stream, start, end)


@dataclass
class CountedStream:
    """``stream``, with the events counted as they go by."""

    stream: EventStream
    on_progress: Progress | None = None
    count: int = 0
    first_us: int | None = None
    """Time of the first event."""

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
            if not self.count:
                self.first_us = int(events.t[0])
            self.count += len(events)
            if self.on_progress is not None:
                self.on_progress(self.count)
            yield events
