"""The ``detect`` command: boxes over time as a table, JSON, JSON lines, Prophesee's npy, or a video."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_core.files import check_output
from multiway_event_vision.formats import Recording
from multiway_event_vision.labels import prophesee_box_writer
from multiway_event_vision.pipeline import DetectionOptions, DetectionRun, DetectorChoice
from multiway_event_vision.rendering import VIEWS, LatestEvents, draw_boxes, mp4_writer
from multiway_event_vision.result import Counters, Prediction
from multiway_event_vision.times import microseconds
from multiway_event_vision.tracking import Tracker

from multiway_event_detection.app import APP
from multiway_event_detection.options import (
    EngineName,
    EngineOptions,
    RecordingOptions,
    SimulationOptions,
    VideoOptions,
)
from multiway_event_detection.streams import CountedStream, Progress, open_stream, time_slice
from multiway_event_detection.table import Table
from multiway_event_detection.text_output import text_writer

MAX_SCALE = 16
_COMFORTABLE_WIDTH = 640  # pixels of a video, where the sensor has fewer
_MIN_WINDOW = 20_000  # microseconds of events in a picture: fewer are hardly seen


@dataclass(frozen=True)
class DetectArguments:
    """How to detect, as the command line has it; times such as ``10ms``."""

    model: ModelOptions
    engine: EngineOptions
    score: float = 0.3
    start: str = "0"
    end: str | None = None
    track: bool = False

    def options(self) -> DetectionOptions:
        """Raises InputError."""
        period = microseconds(self.engine.period, "--period")
        if period < 1:
            raise InputError(f"--period {self.engine.period}: expected 1us or more")
        if not 0 <= self.score <= 1:
            raise InputError(f"--score {self.score:g}: expected 0 to 1")
        return DetectionOptions(self.engine.engine, self.engine.policy, period=period, score=self.score)


@dataclass(frozen=True)
class DetectOutputs:
    """What `detect` writes; any of them together, but JSON in one form. `output`: the file of the JSON."""

    json: bool = False
    jsonl: bool = False
    output: Path | None = None
    npy: Path | None = None
    mp4: Path | None = None
    video: VideoOptions = field(default_factory=VideoOptions)

    def check(self, recording: Path, *, overwrite: bool) -> None:
        """Raises InputError: options that do not go together, or a file that would be replaced."""
        if self.json and self.jsonl:
            raise InputError("--json and --jsonl: give one of them")
        if self.output is not None and not (self.json or self.jsonl):
            raise InputError("--output is for --json and --jsonl; --npy and --mp4 name their file themselves")
        if self.video != VideoOptions() and self.mp4 is None:
            raise InputError("--view, --window, --fps and --scale are for --mp4")
        files = [path for path in (self.output, self.npy, self.mp4) if path is not None]
        if len({path.resolve() for path in files}) < len(files):
            raise InputError("--output, --npy and --mp4 name the same file; give each its own")
        for path in files:
            check_output(path, inputs=[recording], overwrite=overwrite)


def load_detectors(model: ModelOptions, engine: EngineName = "event") -> DetectorChoice:
    """The detectors that a model's name stands for, for one core.

    With more threads, products this small only wait for each other.

    Raises InputError: the engine does not run on the device; ModelNotFoundError, CheckpointError, ConfigError.
    """
    import torch

    torch.set_num_threads(1)
    if engine == "event":
        if model.device not in ("auto", "cpu"):
            raise InputError(
                f"--device {model.device}: the engine event runs on the CPU; give --engine micro-batch or window"
            )
        model = replace(model, device="cpu")
    choice: DetectorChoice = load_pipeline(APP, model)
    return choice


class Detection:
    """A recording opened and a model loaded; its outputs can be written once."""

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
        choice = load_detectors(detecting.model, detecting.engine.engine)
        part = time_slice(stream, start, end)
        self.pipeline, about = choice.suited(part, str(path))
        self._lines += [line for line in (self.pipeline.note, about) if line is not None]
        self.source = str(path)
        self._stream = stream
        self._counted = CountedStream(part, on_progress)
        self.run: DetectionRun = self.pipeline.detect(self._counted, options)
        self._tracker = Tracker() if detecting.track else None

    def remarks(self) -> list[str]:
        """Lines about what was done, when the output is written."""
        repairs = self._stream.repairs if isinstance(self._stream, Recording) else None
        if repairs is not None and (repairs.outside or repairs.unsorted):
            return [f"repaired: {repairs}", *self._lines]
        return self._lines

    def write(self, outputs: DetectOutputs) -> str:
        """Run the detector once, write all outputs whole or none; the text for standard output.

        Raises InputError: bad options, or no predictions for a video; OutputError, DataError.
        """
        table = Table(self.pipeline.names)
        with ExitStack() as stack:
            sinks: list[Callable[[Prediction], None]] = [table.add]
            document = None
            if outputs.json or outputs.jsonl:
                add = stack.enter_context(text_writer(outputs.output, is_live=outputs.jsonl))
                document = (JsonLines if outputs.jsonl else JsonDocument)(add, self.pipeline.names)
                document.begin(self.run.head(self.source))
                sinks.append(document.add)
            if outputs.npy is not None:
                add_boxes = stack.enter_context(prophesee_box_writer(outputs.npy))
                sinks.append(lambda prediction: add_boxes(prediction.to_boxes()))
            if outputs.mp4 is not None:
                sinks.append(self._video(stack, outputs.mp4, outputs.video))
            for prediction in self.run if self._tracker is None else self._tracker.follow(self.run):
                for sink in sinks:
                    sink(prediction)
            if document is not None:
                document.end(self.run.counters())
        if outputs.mp4 is not None:
            self._lines.append(self._about_video(table.count, outputs.video))
        if document is not None:
            return "" if outputs.output is None else f"{outputs.output}\n"
        if not table.count:
            self._lines.append(f"{self.source}: no events in it, so nothing was detected")
            return ""
        return table.text(self.run.counters())

    def _video(self, stack: ExitStack, output: Path, video: VideoOptions) -> Callable[[Prediction], None]:
        """What draws a prediction and adds it to the video. Raises InputError: bad options; OutputError."""
        names, width, height = self.pipeline.names, self._counted.width, self._counted.height
        scale = video.scale or max(1, min(MAX_SCALE, _COMFORTABLE_WIDTH // width))
        latest = LatestEvents(VIEWS[video.view](width, height), self._window(video))
        add = stack.enter_context(mp4_writer(output, frames_per_second=video.fps))

        def draw(prediction: Prediction) -> None:
            captions = prediction.captions(names)
            image_HW3 = latest.picture(prediction.events, prediction.t)
            colours = prediction.class_M if prediction.track_M is None else prediction.track_M
            add(draw_boxes(image_HW3, prediction.boxes_M4, colours, captions, scale=scale))

        return draw

    def _window(self, video: VideoOptions) -> int:
        if video.window is not None:
            return microseconds(video.window, "--window")
        return max(self.run.options.period, _MIN_WINDOW)

    def _about_video(self, count: int, video: VideoOptions) -> str:
        noun, speed = "picture" if count == 1 else "pictures", self.run.options.period * video.fps / 1e6
        return (
            f"{count:,} {noun}, each with {self._window(video):,} us of events, at {speed:.3g} of real speed"
        )


class JsonDocument:
    """The JSON document of the schema `multiway.event-detection/2`, piece by piece."""

    def __init__(self, write: Callable[[str], None], names: Sequence[str]) -> None:
        self._write, self._names = write, names
        self._separator = "\n"

    def begin(self, head: Mapping[str, Any]) -> None:
        """What stands before the predictions."""
        self._write(_json(head)[:-1] + ', "predictions": [')

    def add(self, prediction: Prediction) -> None:
        """One prediction."""
        self._write(self._separator + _json(prediction.to_json(self._names)))
        self._separator = ",\n"

    def end(self, counters: Counters) -> None:
        """What stands behind them."""
        self._write(f'\n], "counters": {_json(counters.to_json())}}}\n')


class JsonLines(JsonDocument):
    """The same a line at a time: what stands before the predictions, each of them, the counters."""

    def begin(self, head: Mapping[str, Any]) -> None:
        """The first line."""
        self._write(_json(head) + "\n")

    def add(self, prediction: Prediction) -> None:
        """A line."""
        self._write(_json(prediction.to_json(self._names)) + "\n")

    def end(self, counters: Counters) -> None:
        """The last line."""
        self._write(_json({"counters": counters.to_json()}) + "\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
