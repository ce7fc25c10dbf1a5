"""Measuring a detector: average precision under the presets of published numbers, cost, and age of the boxes."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.app import ModelOptions
from multiway_core.errors import InputError, MultiwayError
from multiway_core.evaluation import (
    Latency,
    Metric,
    Report,
    describe_machine,
    installed_versions,
    mean_interval,
    peak_rss_bytes,
)
from multiway_event_vision.events import Events, EventStream
from multiway_event_vision.labels.folder import DatasetItem
from multiway_event_vision.metrics.average_precision import CocoScores
from multiway_event_vision.metrics.detection import TimedBoxes, detection_scores
from multiway_event_vision.pipeline import DetectionOptions, DetectionPipeline, DetectorChoice
from multiway_event_vision.result import Counters, Prediction

from multiway_event_detection.dataset import checked, labelled_recordings, timed
from multiway_event_detection.detect import load_detectors
from multiway_event_detection.options import RecordingOptions
from multiway_event_detection.streams import open_recording

OnRecording = Callable[[str], None]
MIN_SCORE = 0.001
"""Of detections that average precision counts: all but the hopeless."""


@dataclass
class Run:
    """A recording worked off: its labels, what was found, what it cost."""

    name: str
    labels: TimedBoxes
    found: TimedBoxes
    ages: np.ndarray
    """(M,) microseconds, of the found boxes when they were read."""
    read_times: np.ndarray
    counters: Counters
    seconds: float
    cpu_seconds: float
    groups: tuple[str, ...] = ()
    label_times: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def numbers(self) -> dict[str, tuple[float, float] | None]:
        """(sum, count) of each cost, None where there were no events."""
        counters, cost = self.counters, self.counters.cost
        if not counters.events or cost is None:
            return dict.fromkeys(COSTS)
        n = float(counters.events)
        return {
            "us/event": (1e6 * counters.update_seconds, n),
            "ms/read-out": (1e3 * counters.predict_seconds, float(counters.predictions)),
            "MFLOP/event": (cost.mean * n / 1e6, n),
            "MFLOP/event p99": (cost.p99 * n / 1e6, n),
            "MFLOP/event of peeks": (cost.peeks * n / 1e6, n),
            "MFLOP/event of the head": (cost.head * n / 1e6, n),
        }


COSTS = (
    "us/event",
    "ms/read-out",
    "MFLOP/event",
    "MFLOP/event p99",
    "MFLOP/event of peeks",
    "MFLOP/event of the head",
)


def evaluate_recordings(
    recording: Path,
    labels: Path | None,
    recording_options: RecordingOptions,
    *,
    model: ModelOptions,
    options: DetectionOptions,
    preset: str,
    limit: int | None = None,
    seed: int = 0,
    on_recording: OnRecording | None = None,
) -> Report:
    """Detect in a labelled recording, or in those of a folder, and score the boxes.

    A label is compared with the read-out nearest to its time. One recording of many that cannot be read is counted as
    failed. Raises InputError: no labels, classes that the model does not have, or nothing could be read; DataError.
    """
    meter = Meter(seed)
    cases = labelled_recordings(recording, labels)[:limit]
    pipeline = _suited(load_detectors(model, options.engine), cases[0], recording_options)
    options = options.suited_to(pipeline.model.config)
    for case, boxes in checked(cases, pipeline.names):
        try:
            stream, _ = open_recording(case.recording, recording_options, infer_size=True)
            run = detected(pipeline, stream, options, str(case.recording))
        except MultiwayError as error:
            if len(cases) == 1:
                raise
            meter.failed(str(case.recording), str(error))
        else:
            end = int(run.read_times[-1]) if len(run.read_times) else 0
            run.labels = timed(boxes, end)
            run.groups = tuple(pipeline.names[label] for label in np.unique(run.labels.label))
            meter.runs.append(run)
        if on_recording is not None:
            on_recording(str(case.recording))
    if not meter.runs:
        raise InputError(
            f"{recording}: none of {len(cases)} recordings could be read: {meter.errors[0]['error']}"
        )
    every = f"read every {options.period / 1e3:g} ms, {options.engine} engine, {options.policy}"
    name = f"{pipeline.name} on {recording.name or recording}, {preset} preset, {every}"
    scores = _scores(meter.runs, len(pipeline.names), preset)
    metrics = precision_metrics(scores) | meter.costs(meter.runs) | meter.ages(meter.runs)
    groups = {
        label: {"ap": Metric(ap, None, None, len(meter.runs))}
        for label, ap in zip(pipeline.names, scores.per_class, strict=True)
        if not np.isnan(ap)
    }
    return meter.report(name, metrics, groups, lambda run: _scores([run], len(pipeline.names), preset))


def _suited(
    choice: DetectorChoice, case: DatasetItem, recording_options: RecordingOptions
) -> DetectionPipeline:
    """The detector that is measured: all recordings have the one that suits the first."""
    if choice.is_given:
        return choice.candidates[0]
    stream, _ = open_recording(case.recording, recording_options, infer_size=True)
    return choice.suited(stream, str(case.recording))[0]


def detected(
    pipeline: DetectionPipeline, stream: Events | EventStream, options: DetectionOptions, name: str
) -> Run:
    """Detect in `stream`; labels are the caller's to fill in."""
    wall, cpu = time.perf_counter(), time.process_time()
    run = pipeline.detect(stream, options)
    predictions = list(run)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    nothing = TimedBoxes(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64))
    times = np.array([read.t for read in predictions], np.int64)
    ages = np.concatenate([read.age_M for read in predictions]) if predictions else times
    return Run(name, nothing, found_boxes(predictions), ages, times, run.counters(), seconds, cpu_seconds)


def found_boxes(predictions: Sequence[Prediction]) -> TimedBoxes:
    """All boxes of the read-outs."""
    if not predictions:
        return TimedBoxes(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    return TimedBoxes(
        np.repeat([read.t for read in predictions], [len(read) for read in predictions]),
        np.concatenate([read.boxes_M4 for read in predictions]).astype(np.float64),
        np.concatenate([read.class_M for read in predictions]),
        np.concatenate([read.score_M for read in predictions]).astype(np.float64),
    )


def precision_metrics(scores: CocoScores) -> dict[str, Metric]:
    """AP, AP50, AP75 and recall over all label times together; they are no means, so they have no interval."""
    values = {"ap": scores.ap, "ap50": scores.ap50, "ap75": scores.ap75, "recall": scores.recall}
    return {
        key: Metric(value, None, None, scores.images) for key, value in values.items() if not np.isnan(value)
    }


def _scores(runs: Sequence[Run], num_classes: int, preset: str) -> CocoScores:
    return detection_scores(
        [run.labels for run in runs],
        [run.found for run in runs],
        num_classes=num_classes,
        preset=preset,
        read_times=[run.read_times for run in runs],
    )


class Meter:
    """Collects what was measured, and makes the report of it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.runs: list[Run] = []
        self.errors: list[dict[str, Any]] = []
        self._started_at, self._started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()

    def failed(self, name: str, reason: str) -> None:
        """A recording that could not be read."""
        self.errors.append({"name": name, "error": reason, "seconds": 0.0, "cpu_seconds": 0.0})

    def costs(self, runs: Sequence[Run]) -> dict[str, Metric]:
        """Costs over all events or read-outs together, with their intervals over recordings."""
        found = {}
        for name in COSTS:
            pairs = [pair for run in runs if (pair := run.numbers()[name]) is not None]
            if pairs:
                found[name] = Metric(*mean_interval(*zip(*pairs, strict=True), seed=self.seed), n=len(pairs))
        return found

    def ages(self, runs: Sequence[Run]) -> dict[str, Metric]:
        """Mean age of the boxes when they were read, in milliseconds."""
        pairs = [(float(run.ages.sum()) / 1e3, float(len(run.ages))) for run in runs if len(run.ages)]
        if not pairs:
            return {}
        interval = mean_interval(*zip(*pairs, strict=True), seed=self.seed)
        return {"age of a box when read, ms": Metric(*interval, n=len(pairs))}

    def report(
        self,
        name: str,
        metrics: dict[str, Metric],
        groups: dict[str, dict[str, Metric]],
        score: Callable[[Run], CocoScores],
    ) -> Report:
        """The report; `score` gives a recording's own AP50, for its row."""
        rows = [
            {
                "name": run.name,
                "groups": list(run.groups),
                "seconds": run.seconds,
                "cpu_seconds": run.cpu_seconds,
                "metrics": {"ap50": _known(score(run).ap50)}
                | {k: v and list(v) for k, v in run.numbers().items()},
            }
            for run in self.runs
        ]
        return Report(
            name=name,
            n=len(rows) + len(self.errors),
            failed=len(self.errors),
            metrics=metrics,
            groups=groups,
            latency=Latency.of([run.seconds for run in self.runs]),
            cpu_seconds=float(np.mean([run.cpu_seconds for run in self.runs])),
            wall_seconds=time.perf_counter() - self._started,
            peak_rss_bytes=peak_rss_bytes(),
            seed=self.seed,
            started_at=self._started_at,
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            machine=describe_machine(),
            versions=installed_versions(),
            rows=(*rows, *self.errors),
        )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
