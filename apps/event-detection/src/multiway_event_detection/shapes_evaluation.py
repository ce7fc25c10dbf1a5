"""Measuring a detector on simulated shapes: no data needed, and the truth is known at any microsecond.

Label times do not fall on read-outs. At a label time a user has the boxes of the last read-out before it, so reading
less often costs accuracy, and boxes are older: the curve of age against the period of read-outs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, get_args

import numpy as np
from multiway_core.app import ModelOptions
from multiway_core.errors import InputError
from multiway_core.evaluation import Metric, Report, mean_interval
from multiway_event_vision.metrics.average_precision import Boxes, CocoScores, coco_scores
from multiway_event_vision.pipeline import AUTO, BUNDLED_MODELS, DetectionOptions
from multiway_event_vision.simulator.shapes import CLASS_NAMES
from multiway_event_vision.ssla_det.shapes_set import shapes_set

from multiway_event_detection.dataset import timed
from multiway_event_detection.detect import load_detectors
from multiway_event_detection.evaluation import (
    MIN_SCORE,
    Meter,
    OnRecording,
    Run,
    detected,
    precision_metrics,
)
from multiway_event_detection.options import PolicyName

SHAPES: Final = "shapes"
PERIODS: Final = (1_000, 5_000, 10_000, 50_000)
"""Microseconds between read-outs."""
USUAL_PERIOD: Final = 10_000
SHOWN_SCORE: Final = 0.3
"""Of boxes whose age counts: those below are not for people."""
LABEL_EVERY: Final = 23_000
"""Microseconds; prime to all periods."""
_QUICK_RECORDINGS, _QUICK_PERIODS = 4, (10_000, 50_000)


def evaluate_shapes(
    model: ModelOptions,
    options: DetectionOptions,
    *,
    recordings: int = 20,
    periods: Sequence[int] = PERIODS,
    policies: Sequence[PolicyName] = get_args(PolicyName),
    seed: int = 0,
    on_recording: OnRecording | None = None,
) -> Report:
    """`options` gives engine, policy and period of the whole; its policy is also read at each of `periods`, and all
    `policies` at its period: a group of the report each.

    The recordings are the first of the test split of the shapes set; `seed` is of the intervals.
    Raises InputError: a model with other classes than shapes.
    """
    meter = Meter(seed)
    if model.model in ("", AUTO):
        model = replace(model, model=BUNDLED_MODELS[0])
    (pipeline,) = load_detectors(model, options.engine).candidates
    config = pipeline.model.config
    options = options.suited_to(config)
    if config.num_classes != len(CLASS_NAMES) or config.class_names not in ((), CLASS_NAMES):
        raise InputError(
            f"{pipeline.name} knows {', '.join(pipeline.names[:6])}; the shapes are {', '.join(CLASS_NAMES)}: "
            "give a recording"
        )
    variants = {_title(options): options}
    for period in periods:
        variants.setdefault(_title(varied := replace(options, period=period)), varied)
    for policy in policies:
        variants.setdefault(_title(varied := replace(options, policy=policy)), varied)
    for number, recording in enumerate(shapes_set("test", recordings, label_every_us=LABEL_EVERY)):
        for title, varied in variants.items():
            run = detected(pipeline, recording.events, varied, f"shapes {number}, {title}")
            run.labels, run.label_times, run.groups = (
                timed(recording.boxes, 0),
                recording.label_times,
                (title,),
            )
            meter.runs.append(run)
        if on_recording is not None:
            on_recording(f"shapes {number}")
    groups = {}
    for title in variants:
        runs = [run for run in meter.runs if title in run.groups]
        groups[title] = precision_metrics(_held_scores(runs)) | _held_ages(runs, seed) | meter.costs(runs)
    return meter.report(
        f"{pipeline.name} on {recordings} recordings of simulated shapes, {options.engine} engine; "
        f"all: {_title(options)}",
        groups[_title(options)],
        groups,
        lambda run: _held_scores([run]),
    )


def quick_evaluation() -> Report:
    """The bundled model on a few recordings; about a minute of one core."""
    options = DetectionOptions(period=USUAL_PERIOD, score=MIN_SCORE)
    return evaluate_shapes(ModelOptions(), options, recordings=_QUICK_RECORDINGS, periods=_QUICK_PERIODS)


def _title(options: DetectionOptions) -> str:
    return f"{options.policy}, read every {options.period / 1e3:g} ms"


def _last_read(run: Run) -> Iterator[tuple[int, int | None]]:
    """(label time, time of the last read-out that is not later) of every label time."""
    before = np.searchsorted(run.read_times, run.label_times, side="right") - 1
    for t, i in zip(run.label_times.tolist(), before.tolist(), strict=True):
        yield t, int(run.read_times[i]) if i >= 0 else None


def _held_scores(runs: Sequence[Run]) -> CocoScores:
    truth, found = [], []
    for run in runs:
        for t, read in _last_read(run):
            true_N, found_M = run.labels.t == t, run.found.t == (-1 if read is None else read)
            assert run.found.score is not None
            truth.append(Boxes(run.labels.boxes[true_N], run.labels.label[true_N]))
            found.append(Boxes(run.found.boxes[found_M], run.found.label[found_M], run.found.score[found_M]))
    return coco_scores(truth, found, num_classes=len(CLASS_NAMES))


def _held_ages(runs: Sequence[Run], seed: int) -> dict[str, Metric]:
    """Mean age at the label times of boxes that a user would see: from a box's newest event to the label time."""
    sums = []
    for run in runs:
        assert run.found.score is not None
        shown_M = run.found.score >= SHOWN_SCORE
        ages = [
            (t - read) + run.ages[(run.found.t == read) & shown_M]
            for t, read in _last_read(run)
            if read is not None
        ]
        if ages and len(all_ages := np.concatenate(ages)):
            sums.append((float(all_ages.sum()) / 1e3, float(len(all_ages))))
    if not sums:
        return {}
    return {"age of a box, ms": Metric(*mean_interval(*zip(*sums, strict=True), seed=seed), n=len(sums))}
