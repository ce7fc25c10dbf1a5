"""Uploads detected in by one pipeline a model for all visitors, as values of the viewer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from multiway_core import hub
from multiway_core.app import ModelOptions, named_as_uploaded
from multiway_core.errors import InputError
from multiway_event_vision.baselines.dense_cnn import DenseCnn
from multiway_event_vision.events import Events, EventStream
from multiway_event_vision.formats.recording import CHUNK_EVENTS
from multiway_event_vision.pipeline import (
    AUTO,
    DetectionOptions,
    DetectionPipeline,
    DetectionRun,
    DetectorChoice,
)
from multiway_event_vision.rendering import CLASS_COLOURS
from multiway_event_vision.sources import is_video

from multiway_event_detection.demo.dense_baseline import DenseBaseline, dense_model
from multiway_event_detection.demo.view import empty_value, packed, prediction_value
from multiway_event_detection.detect import load_detectors
from multiway_event_detection.options import RecordingOptions, SimulationOptions
from multiway_event_detection.streams import open_stream

MAX_EVENTS = 600_000  # eight bytes each go to the browser
MAX_MICROSECONDS = 10_000_000
MIN_SCORE = 0.1  # of boxes that go to the browser, which has a slider
_SECONDS_BETWEEN_UPDATES = 0.3
_BUNDLED = {"ssla-shapes": "Moving shapes", "ssla-street": "People and vehicles"}


class DemoDetector:
    """Detects in the beginning of recordings and videos."""

    def __init__(self, options: ModelOptions) -> None:
        model = options.model or AUTO
        self._options, self._choices = options, {model: load_detectors(options)}
        self._dense_models: dict[tuple[str, ...], DenseCnn | None] = {}
        bundled = [
            (label, hub.BUNDLED_PREFIX + name) for name, label in _BUNDLED.items() if name in hub.bundled()
        ]
        bundled.insert(0, ("Chosen by the input", AUTO))
        self.models = [(label, name) for label, name in bundled if name == model] or [
            (Path(model).name, model)
        ]
        self.models += [(label, name) for label, name in bundled if name != model]
        """(label, name) of what can be chosen, the given one first."""

    def choice(self, model: str) -> DetectorChoice:
        """The detectors of one of `models`. Raises InputError."""
        if model not in [name for _, name in self.models]:
            raise InputError(f"no model {model!r} here")
        if model not in self._choices:
            self._choices[model] = load_detectors(replace(self._options, model=model))
        return self._choices[model]

    def result(self, path: Path, model: str, period: int) -> dict[str, Any]:
        """JSON of the schema `multiway.event-detection/2` of the beginning of an upload."""
        with named_as_uploaded(path):
            stream, _ = open_stream(path, RecordingOptions(), SimulationOptions())
            options = DetectionOptions(period=period)
            pipeline, _ = self.choice(model).suited(stream, path.name)
            return pipeline(_Truncated(stream), options, source=path.name).to_json()

    def detect(self, path: Path, model: str, period: int) -> Iterator[dict[str, Any]]:
        """Values of the viewer while read-outs come, the last one with `running` false."""
        with named_as_uploaded(path):
            yield empty_value(f"Opening {path.name} ...")
            stream, _ = open_stream(path, RecordingOptions(), SimulationOptions())
            beginning = _Truncated(stream)
            pipeline, about = self.choice(model).suited(stream, path.name)
            run = pipeline.detect(beginning, DetectionOptions(period=period, score=MIN_SCORE))
            dense = self._dense(pipeline)
            beside = None if dense is None else DenseBaseline(dense, stream.width, stream.height, MIN_SCORE)
            title = f"SSLA-Det, {Path(pipeline.name.removeprefix(hub.BUNDLED_PREFIX)).name}"
            value: dict[str, Any] = {
                "id": secrets.token_hex(8),
                "width": stream.width,
                "height": stream.height,
                "names": list(pipeline.names),
                "colours": [list(colour) for colour in CLASS_COLOURS],
                "titles": [title],
                "parts": [],
            }
            part = _Part()
            started = updated = time.monotonic()
            for read in run:
                start = value.setdefault("start", read.t - period)
                part.events.append(read.events)
                part.predictions.append(prediction_value(read, start))
                if beside is not None:
                    part.beside.append(beside.read(read, start))
                    value["titles"] = [title, beside.title]
                if time.monotonic() - updated >= _SECONDS_BETWEEN_UPDATES:
                    summary = f"{run.counters().duration_us / 1e6:.2f} s ..."
                    value = _with(value, part, run, summary, running=True)
                    part, updated = _Part(), time.monotonic()
                    yield value
            if "start" not in value:
                yield empty_value(f"{path.name}: no events in it, so nothing was detected.")
                return
            summary = _summary(path, run, beginning.is_cut, time.monotonic() - started, about)
            yield _with(value, part, run, summary, running=False)

    def _dense(self, pipeline: DetectionPipeline) -> DenseCnn | None:
        if pipeline.names not in self._dense_models:
            self._dense_models[pipeline.names] = dense_model(pipeline.names)
        return self._dense_models[pipeline.names]


@dataclass
class _Part:
    """What came since the viewer was last given something."""

    events: list[Events] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    beside: list[Any] = field(default_factory=list)


def _with(
    value: dict[str, Any], part: _Part, run: DetectionRun, summary: str, *, running: bool
) -> dict[str, Any]:
    """The value with what came since; what was sent before stays as it is."""
    sent = {
        "events": packed(part.events, value["start"]),
        "predictions": part.predictions,
        "beside": part.beside,
    }
    return value | {
        "parts": [*value["parts"], sent],
        "counters": run.counters().to_json(),
        "summary": summary,
        "running": running,
    }


def _summary(path: Path, run: DetectionRun, is_cut: bool, seconds: float, about: str | None) -> str:
    counters = run.counters()
    parts = [
        f"{path.name}{', events simulated' if is_video(path) else ''}: {'the first ' if is_cut else ''}"
        f"{counters.events:,} events in {counters.duration_us / 1e6:.2f} s",
        f"{run.stream.width} × {run.stream.height} pixels",
        f"{counters.predictions:,} read-outs in {seconds:.1f} s",
    ]
    return " · ".join([*parts, about] if about else parts)


class _Truncated:
    """As much of a stream as the demo shows; `is_cut` tells whether there is more."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self.width, self.height = stream.width, stream.height
        self.is_cut = False

    def chunks(self, chunk_events: int = CHUNK_EVENTS) -> Iterator[Events]:
        left, end = MAX_EVENTS, None
        for events in self._stream.chunks(chunk_events):
            if end is None:
                end = int(events.t[0]) + MAX_MICROSECONDS
            part = events.between(int(events.t[0]), end)[:left]
            left -= len(part)
            if len(part):
                yield part
            if len(part) < len(events):
                self.is_cut = True
                return
