"""SSLA-Det in a stream: what it may remember, and how often it is read.

    python -m benchmarks.event_vision.detection_read_outs [--model bundled:ssla-shapes] [--scenes 30] [--output DIR]

Held-out scenes of the shapes set, 128 x 96 pixels, 400 ms, one after the other through the event engine.

* Policies (`ssla_det/policies.py`, windows of 100 ms), read every 50 ms: mAP, AP50, and those of the read-outs of the
  last 200 ms alone, where a stream is older than what networks trained on windows have seen.
* Periods: boxes stay as they are until the next read-out, and are judged every 10 ms. Age is the time since the
  read-out; operations and CPU time of reading are shared out over all events.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_core import hub
from multiway_core.evaluation.machine import installed_versions
from multiway_event_vision.events import Events
from multiway_event_vision.metrics.average_precision import Boxes, CocoScores, coco_scores
from multiway_event_vision.simulator.shapes import MovingShapes, shapes_recording
from multiway_event_vision.ssla_det import checkpoint
from multiway_event_vision.ssla_det.cost import cost_of
from multiway_event_vision.ssla_det.detections import detect
from multiway_event_vision.ssla_det.engines.event import EventEngine
from multiway_event_vision.ssla_det.model import SslaDet
from multiway_event_vision.ssla_det.policies import Policy, PolicyName
from multiway_event_vision.ssla_det.shapes_set import FIRST_SEED, HELD_OUT

PERIODS_MS = (1, 5, 10, 20, 50, 100)
JUDGED_EVERY_US = 10_000
Scene = tuple[MovingShapes, Events]


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def truth(scene: MovingShapes, time_us: int) -> Boxes:
    boxes = scene.boxes(time_us)
    corners = np.stack([boxes.x, boxes.y, boxes.x + boxes.width, boxes.y + boxes.height], axis=1)
    return Boxes(corners.astype(np.float64), boxes.class_id.astype(np.int64))


def stream_of(model: SslaDet, scene: Scene, policy: PolicyName) -> Policy:
    return Policy(lambda: EventEngine(model, scene[1].height, scene[1].width), policy)


def read(stream: Policy, scene: Scene, period_us: int) -> Iterator[tuple[int, Boxes, float]]:
    """(time, detections, CPU seconds of reading) of each read-out."""
    stream.advance(0)
    for end in range(period_us, HELD_OUT.duration_us + 1, period_us):
        stream.push_events(scene[1].between(end - period_us, end))
        start = time.process_time()
        found = detect(stream)
        seconds = time.process_time() - start
        corners, scores = (tensor.numpy().astype(np.float64) for tensor in (found.boxes_M4, found.score_M))
        yield end, Boxes(corners, found.label_M.numpy(), scores), seconds


def scores_of(images: Sequence[tuple[Boxes, Boxes]], model: SslaDet) -> CocoScores:
    return coco_scores([t for t, _ in images], [f for _, f in images], num_classes=model.num_classes)


def policies(model: SslaDet, scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    rows = []
    for policy in get_args(PolicyName):
        note(policy)
        images, late, events, flops = [], [], 0, 0.0
        for scene in scenes:
            stream = stream_of(model, scene, policy)
            for end, found, _ in read(stream, scene, 50_000):
                images.append((truth(scene[0], end), found))
                if end > HELD_OUT.duration_us // 2:
                    late.append(images[-1])
            cost = cost_of(model.config, stream.work)
            events, flops = events + len(scene[1]), flops + cost.mean * cost.events
        every, last = scores_of(images, model), scores_of(late, model)
        rows.append(
            {
                "policy": policy,
                "ap": every.ap,
                "ap50": every.ap50,
                "late_ap": last.ap,
                "late_ap50": last.ap50,
                "mflop_commit": flops / events / 1e6,
            }
        )
    return rows


def periods(model: SslaDet, scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    rows = []
    for period_ms in PERIODS_MS:
        note(f"every {period_ms} ms")
        images, ages, events, flops, seconds = [], [], 0, 0.0, 0.0
        for scene in scenes:
            judged = list(range(JUDGED_EVERY_US, HELD_OUT.duration_us + 1, JUDGED_EVERY_US))
            last: tuple[int, Boxes] | None = None
            stream = stream_of(model, scene, "continuous")
            for end, found, spent in read(stream, scene, period_ms * 1000):
                # Label times before this read-out saw the one before; before the first there is nothing to see.
                while judged and judged[0] < end:
                    _judge(images, ages, scene, judged.pop(0), last)
                last, seconds = (end, found), seconds + spent
            while judged:
                _judge(images, ages, scene, judged.pop(0), last)
            cost = cost_of(model.config, stream.work)
            events, flops = events + len(scene[1]), flops + (cost.peeks + cost.head) * cost.events
        scores = scores_of(images, model)
        rows.append(
            {
                "period_ms": period_ms,
                "ap": scores.ap,
                "ap50": scores.ap50,
                "age_ms": float(np.mean(ages)) / 1000,
                "mflop_read_outs": flops / events / 1e6,
                "us_read_outs": seconds / events * 1e6,
            }
        )
    return rows


def _judge(
    images: list[tuple[Boxes, Boxes]],
    ages: list[int],
    scene: Scene,
    time_us: int,
    last: tuple[int, Boxes] | None,
) -> None:
    if time_us < PERIODS_MS[-1] * 1000:  # the same images for all periods: where all have been read
        return
    assert last is not None
    images.append((truth(scene[0], time_us), last[1]))
    ages.append(time_us - last[0])


def page(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        "# SSLA-Det in a stream\n",
        f"{machine['cpu']}, one thread, load average {machine['load_average']:.1f}, {report['when']};"
        f" {report['model']}, {report['scenes']} held-out scenes. `benchmarks/event_vision/detection_read_outs.py`.\n",
        "| policy | mAP | AP50 | mAP, last 200 ms | AP50, last 200 ms | MFLOP an event, state updates |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['policy']} | {row['ap']:.3f} | {row['ap50']:.3f} | {row['late_ap']:.3f} |"
            f" {row['late_ap50']:.3f} | {row['mflop_commit']:.3g} |"
            for row in report["policies"]
        ),
        "\n| read every, ms | mAP | AP50 | age of boxes, ms | MFLOP an event, read-outs | CPU us an event, read-outs |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['period_ms']} | {row['ap']:.3f} | {row['ap50']:.3f} | {row['age_ms']:.1f} |"
            f" {row['mflop_read_outs']:.3g} | {row['us_read_outs']:.3g} |"
            for row in report["periods"]
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = harness.parser(__doc__, "event_vision")
    parser.add_argument("--model", default="bundled:ssla-shapes")
    parser.add_argument(
        "--scenes", type=int, default=30, help="for the policies; a sixth of them for the periods"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = checkpoint.load(hub.resolve(options.model))
    scenes = []
    for seed in range(FIRST_SEED["test"], FIRST_SEED["test"] + options.scenes):
        scenes.append((MovingShapes(HELD_OUT, seed=seed), shapes_recording(seed, HELD_OUT)[0]))
    report = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": harness.machine(),
        "versions": installed_versions(),
        "model": Path(options.model.removeprefix("bundled:")).name,
        "scenes": options.scenes,
        "policies": policies(model, scenes),
        "periods": periods(model, scenes[: max(1, options.scenes // 6)]),
    }
    harness.save(options.output, "event-detection-read-outs", report, page(report))
    print(page(report))


if __name__ == "__main__":
    main()
