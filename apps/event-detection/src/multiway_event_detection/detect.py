"""The ``detect`` command: boxes over time as a table, JSON, JSON lines, Prophesee's npy, or a video."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_event_vision.formats import Recording
from multiway_event_vision.labels import write_prophesee_boxes
from multiway_event_vision.pipeline import DetectionOptions, DetectionPipeline, DetectionRun
from multiway_event_vision.rendering import VIEWS, LatestEvents, draw_boxes, write_mp4
from multiway_event_vision.result import Prediction
from multiway_event_vision.times import microseconds

from multiway_event_detection.app import APP
from multiway_event_detection.options import (
    EngineOptions,
    RecordingOptions,
    SimulationOptions,
    VideoOptions,
)
from multiway_event_detection.streams import CountedStream, Progress, open_stream, time_slice
from multiway_event_detection.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_SCALE = 16
_PLEASANT_WIDTH = 640  # pixels of a video, where the sensor has fewer
_SHORTEST_WINDOW = 20_000  # microseconds of events in a picture: fewer are hardly seen


@dataclass(frozen=True)
class DetectArguments:
    """How to detect, as the command line has it; times such as ``10ms``."""

    model: ModelOptions
    engine: EngineOptions
    score: float = 0.3
    start: str = "0"
    end: str | None = None

    def options(self) -> DetectionOptions:
        """Raises InputError."""
        period = microseconds(self.engine.period, "--period")
        if period < 1:
            raise InputError(f"--period {self.engine.period}: expected 1us or more")
        if not 0 <= self.score <= 1:
            raise InputError(f"--score {self.score:g}: expected 0 to 1")
        return DetectionOptions(self.engine.engine, self.engine.policy, period=period, score=self.score)


def load_detector(model: ModelOptions) -> DetectionPipeline:
    """The pipeline of a model, for one core: with more threads, products this small only wait for each other."""
    import torch

    torch.set_num_threads(1)
    pipeline: DetectionPipeline = load_pipeline(APP, model)
    return pipeline


class Detection:
    """A recording opened and a model loaded; one of its outputs can be written, once."""

    def __init__(
        self,
        path: Path,
        recording_options: RecordingOptions,
        simulated: SimulationOptions,
        detecting: DetectArguments,
        on_progress: Progress | None = None,
    ) -> None:
        """Raises InputError, DataError: a bad option or recording; ModelNotFoundError, CheckpointError, ConfigError."""
        options = detecting.options()
        start = microseconds(detecting.start, "--start")
        end = None if detecting.end is None else microseconds(detecting.end, "--end")
        stream, self._lines = open_stream(path, recording_options, simulated)
        self.pipeline = load_detector(detecting.model)
        if self.pipeline.note is not None:
            self._lines.append(self.pipeline.note)
        self.source = str(path)
        self._stream = stream
        self._watched = CountedStream(time_slice(stream, start, end), on_progress)
        self.run: DetectionRun = self.pipeline.detect(self._watched, options)

    def remarks(self) -> list[str]:
        """Lines about what was done, when the output is written."""
        repairs = self._stream.repairs if isinstance(self._stream, Recording) else None
        if repairs is not None and (repairs.outside or repairs.unsorted):
            return [f"repaired: {repairs}", *self._lines]
        return self._lines

    def json(self) -> Iterator[str]:
        """The JSON document of the schema `multiway.event-detection/2` in pieces."""
        yield json.dumps(self.run.head(self.source), ensure_ascii=False)[:-1] + ', "predictions": ['
        separator = "\n"
        for read in self.run:
            yield separator + json.dumps(read.to_json(self.pipeline.names), ensure_ascii=False)
            separator = ",\n"
        yield f'\n], "counters": {json.dumps(self.run.counters().to_json())}}}\n'

    def json_lines(self) -> Iterator[str]:
        """The same a line at a time: what stands before the read-outs, each of them, the counters."""
        yield json.dumps(self.run.head(self.source), ensure_ascii=False) + "\n"
        for read in self.run:
            yield json.dumps(read.to_json(self.pipeline.names), ensure_ascii=False) + "\n"
        yield json.dumps({"counters": self.run.counters().to_json()}) + "\n"

    def report(self, npy: Path | None, mp4: Path | None, drawing: VideoOptions) -> str:
        """The table of what was found; `npy` or `mp4` is written on the way. Raises InputError, OutputError."""
        table = Table(self.pipeline.names)
        reads = table.hook(self.run)
        if npy is not None:
            write_prophesee_boxes(npy, (read.to_boxes() for read in reads))
        elif mp4 is not None:
            self._lines.append(self._write_mp4(mp4, reads, drawing))
        else:
            for _ in reads:
                pass
        if not table.count:
            self._lines.append(f"{self.source}: no events in it, so nothing was detected")
            return ""
        return table.text(self.run.counters())

    def _write_mp4(self, output: Path, reads: Iterator[Prediction], drawing: VideoOptions) -> str:
        """A picture a read-out, and a line about it. Raises InputError: no read-outs, bad options; OutputError."""
        period = self.run.options.period
        window = max(period, _SHORTEST_WINDOW)
        if drawing.window is not None:
            window = microseconds(drawing.window, "--window")
        width, height = self._watched.width, self._watched.height
        scale = drawing.scale or max(1, min(MAX_SCALE, _PLEASANT_WIDTH // width))
        latest = LatestEvents(VIEWS[drawing.view](width, height), window)
        images = (self._drawn(latest, read, scale) for read in reads)
        count = write_mp4(output, images, frames_per_second=drawing.fps)
        noun = "picture" if count == 1 else "pictures"
        return f"{count:,} {noun}, each with {window:,} us of events, at {period * drawing.fps / 1e6:.3g} of real speed"

    def _drawn(self, latest: LatestEvents, read: Prediction, scale: int) -> NDArray[np.uint8]:
        names = self.pipeline.names
        captions = [
            f"{names[label]} {score:.2f}" for label, score in zip(read.class_M, read.score_M, strict=True)
        ]
        image = latest.picture(read.events, read.t)
        return draw_boxes(image, read.boxes_M4, read.class_M, captions, scale=scale)
