"""Frames made between frames of clips that no training has seen, by source: the fusion network beside what is free.

    python -m benchmarks.event_vision.interpolation_held_out --clips FOLDER --slider FOLDER [--model MODEL]
        [--gaps 3] [--sensors 3] [--output DIR]

* **clips**: videos of FOLDER, at most 320 pixels wide, evenly spread gaps of their first 300 frames. 1, 3 and 7 frames
  are left out between two that are kept. Events come from simulated sensors with random thresholds, their mismatch,
  noise, leak and a refractory time that no method is told: `--sensors` of them a clip. `auto`, what the command does,
  checks the methods on the two kept frames of a gap, made from those beside them.
* **slider**: frames 0 to 4 of slider_depth (DAVIS240C), true events: 1 and 3 are left out.

The interval is that of the mean difference to the best free method (optical flow, event integration, blending), over
all gaps, at 95 % (bootstrap). CPU seconds are a frame's, of one thread, flow included.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import cv2
import numpy as np
import torch
from multiway_event_vision.formats import open_events
from multiway_event_vision.frame_fusion.fusion import BUNDLED
from multiway_event_vision.interpolation import InterpolationPipeline
from multiway_event_vision.metrics.frame_quality import psnr, ssim
from multiway_event_vision.time_replayer.baselines import BASELINES, Interpolation
from multiway_event_vision.time_replayer.clips import Clip, clip_name, hidden_sensor, read_clip, record
from multiway_event_vision.time_replayer.frames import open_frames
from multiway_event_vision.time_replayer.protocol import Gap, checks, gaps

SKIPPED = (1, 3, 7)
FREE = ("dis", "integration", "blend")
MAX_FRAMES, WIDTH, SEED = 300, 320, 100
Row = dict[str, Any]


def rows_of(
    clip: str, beside: tuple[Gap | None, Gap, Gap | None], pipeline: InterpolationPipeline, **facts: object
) -> Iterator[Row]:
    """A row a method: means over the frames left out of the middle one of three gaps."""
    auto, gap = pipeline.auto(), beside[1]
    for check in checks(*beside):
        auto.check(*check)
    for name, method in {"auto": auto, **methods_of(pipeline)}.items():
        started = time.thread_time()
        frames = list(method.interpolate(gap.first, gap.second, gap.events, gap.times))
        seconds = (time.thread_time() - started) / len(frames)
        pairs = list(zip(frames, gap.truth_THW3, strict=True))
        yield {
            "clip": clip,
            "method": name,
            "gap": gap.first.t,
            "psnr": float(np.mean([psnr(*pair) for pair in pairs])),
            "ssim": float(np.mean([ssim(*pair) for pair in pairs])),
            "seconds": seconds,
            **facts,
        }


def methods_of(pipeline: InterpolationPipeline) -> dict[str, Interpolation]:
    assert pipeline.fusion is not None
    found: dict[str, Interpolation] = {
        "fusion": pipeline.fusion,
        "timereplayer": pipeline.method("timereplayer"),
    }
    return found | {name: BASELINES[name]() for name in FREE}


def measured(options: argparse.Namespace, pipeline: InterpolationPipeline) -> Iterator[Row]:
    for number, path in enumerate(sorted(options.clips.iterdir())):
        whole = read_clip(clip_name(path), open_frames(path, width=WIDTH), max_frames=MAX_FRAMES)
        for skipped in SKIPPED:
            step = skipped + 1
            if len(whole) < step + 1:
                continue
            starts = np.unique(np.linspace(0, len(whole) - step - 1, options.gaps).astype(int))
            for start in starts.tolist():
                low = start - step if start >= step else start
                part = slice(low, min(start + 2 * step, len(whole) - 1) + 1)
                stretch = Clip(whole.name, whole.frames_THW3[part], whole.times_T[part])
                for sensor in range(options.sensors):
                    config = hidden_sensor([SEED, number, sensor])
                    found = list(gaps(record(stretch, [config], seed=SEED + sensor), skipped))
                    row = [None, *found, None]
                    at = 1 + (start - low) // step
                    facts = {"skipped": skipped, "sensor": sensor}
                    gap = row[at]
                    assert gap is not None
                    yield from rows_of(whole.name, (row[at - 1], gap, row[at + 1]), pipeline, **facts)
        print(whole.name, file=sys.stderr, flush=True)
    if options.slider is None:
        return
    clip = read_clip("slider_depth (true events)", open_frames(options.slider / "images"), max_frames=5)
    height, width = clip.frames_THW3.shape[1:3]
    events = open_events(options.slider / "events.txt", size=(width, height)).read()
    first, second = gaps(replace(clip, recordings=(events,)), 1)
    for beside in ((None, first, second), (first, second, None)):
        yield from rows_of(clip.name, beside, pipeline, skipped=1, sensor=0)


def means(rows: list[Row], key: str, *by: str) -> dict[tuple, float]:
    found: dict[tuple, list[float]] = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in by)].append(row[key])
    return {name: float(np.mean(values)) for name, values in found.items()}


def lead(rows: list[Row]) -> tuple[float, float, float]:
    """(mean, lower, upper) of how much better `auto` is than the best free method of each clip and number."""
    by_clip = means(rows, "psnr", "clip", "skipped", "method")
    best = {
        (clip, skipped): max(FREE, key=lambda name: by_clip[clip, skipped, name])
        for clip, skipped, _ in by_clip
    }
    scores = {(r["clip"], r["skipped"], r["gap"], r["sensor"], r["method"]): r["psnr"] for r in rows}
    leads = np.array(
        [value - scores[(*key[:4], best[key[:2]])] for key, value in scores.items() if key[4] == "auto"]
    )
    generator = np.random.default_rng(0)
    drawn = leads[generator.integers(len(leads), size=(2000, len(leads)))].mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(leads.mean()), float(low), float(high)


def page(report: dict[str, Any]) -> str:
    rows, names = report["rows"], report["methods"]
    clips = list(dict.fromkeys(row["clip"] for row in rows))
    filmed = [row for row in rows if "true events" not in row["clip"]]
    parts = [
        "# Frames between frames, on clips held out by source\n",
        f"{report['machine']['cpu']}, one thread, load average {report['machine']['load_average']:.1f}, "
        f"{report['started_at'][:10]}; seed {SEED}; model `{report['model']}`. `{report['command']}`. No training of "
        "the fusion network, and no choice about it, has used these clips; TimeReplayer was trained on the first 70 % "
        "of `dashcam`. Means over clips of means over gaps and sensors.\n",
    ]
    for key, digits, about in (("psnr", 2, "PSNR, dB"), ("ssim", 3, "SSIM")):
        by_clip = means(filmed, key, "clip", "skipped", "method")
        lines = []
        for name in names:
            values = []
            for skipped in SKIPPED:
                found = [by_clip[c, skipped, name] for c in clips if (c, skipped, name) in by_clip]
                values.append(f"{np.mean(found):.{digits}f}")
            lines.append([name, *values])
        parts.append(harness.table([f"{about}; frames left out", *map(str, SKIPPED)], lines) + "\n")
    by_clip = means(rows, "psnr", "clip", "skipped", "method")
    lines = [
        [clip, skipped, *(f"{by_clip[clip, skipped, name]:.2f}" for name in names),
         f"{by_clip[clip, skipped, 'auto'] - max(by_clip[clip, skipped, name] for name in FREE):+.2f}"]
        for clip in clips
        for skipped in SKIPPED
        if (clip, skipped, "dis") in by_clip
    ]  # fmt: skip
    head = ["clip", "left out", *names, "auto over the best free one"]
    parts += ["Clip by clip, PSNR in dB:\n", harness.table(head, lines) + "\n"]
    mean, low, high = report["lead"]
    worst = min(float(line[-1]) for line in lines)
    parts.append(
        f"Over all gaps auto is {mean:+.2f} dB ({low:+.2f} to {high:+.2f}) from the best free method of each "
        f"row; its worst row is {worst:+.2f} dB.\n"
    )
    seconds = means(filmed, "seconds", "method")
    parts.append(
        harness.table(["CPU s a frame", *names], [["", *(f"{seconds[(name,)]:.3f}" for name in names)]])
    )
    return "\n".join(parts)


def main() -> None:
    parser = harness.parser(__doc__, "event_vision")
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--slider", type=Path)
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--gaps", type=int, default=3)
    parser.add_argument("--sensors", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pipeline = InterpolationPipeline.from_pretrained(options.model)
    assert pipeline.fusion is not None
    rows = list(measured(options, pipeline))
    report = harness.provenance("interpolation-held-out") | {
        "model": options.model,
        "methods": ["auto", *methods_of(pipeline)],
        "lead": lead(rows),
        "rows": rows,
    }
    report["command"] = (
        f"python -m {__spec__.name} --clips FOLDER --slider FOLDER --gaps {options.gaps} --sensors {options.sensors}"
    )
    harness.save(options.output, "interpolation-held-out", report, page(report))


if __name__ == "__main__":
    main()
