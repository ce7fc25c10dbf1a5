"""Frames made between frames of clips that no training has seen, by source: the fusion network beside what is free.

    python -m benchmarks.event_vision.interpolation_held_out --clips FOLDER --slider FOLDER [--model MODEL]
        [--gaps 3] [--sensors 3] [--output DIR]

* **clips**: videos of FOLDER, at most 320 pixels wide, evenly spread gaps of their first 300 frames. 1, 3 and 7 frames
  are left out between two that are kept. Events come from simulated sensors with random thresholds, their mismatch,
  noise, leak and a refractory time that no method is told: `--sensors` of them a clip.
* **slider**: triplets of slider_depth (DAVIS240C): true events, true middle frames.

The interval is that of the mean difference to the best free method (optical flow, event integration), over all gaps, at
95 % (bootstrap). CPU seconds are a frame's, of one thread, flow included.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterator
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
from multiway_event_vision.time_replayer.protocol import Gap, gaps

SKIPPED = (1, 3, 7)
FREE = ("dis", "integration")
MAX_FRAMES, WIDTH, SEED = 300, 320, 100
Row = dict[str, Any]


def rows_of(clip: str, gap: Gap, methods: dict[str, Interpolation], **facts: object) -> Iterator[Row]:
    """A row a method: means over the frames left out of a gap."""
    for name, method in methods.items():
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


def measured(options: argparse.Namespace, methods: dict[str, Interpolation]) -> Iterator[Row]:
    for number, path in enumerate(sorted(options.clips.iterdir())):
        whole = read_clip(clip_name(path), open_frames(path, width=WIDTH), max_frames=MAX_FRAMES)
        for skipped in SKIPPED:
            span = skipped + 2
            if len(whole) < span:
                continue
            starts = np.unique(np.linspace(0, len(whole) - span, options.gaps).astype(int))
            for start in starts:
                part = slice(int(start), int(start) + span)
                stretch = Clip(whole.name, whole.frames_THW3[part], whole.times_T[part])
                for sensor in range(options.sensors):
                    config = hidden_sensor([SEED, number, sensor])
                    seen = record(stretch, [config], seed=SEED + sensor)
                    for gap in gaps(seen, skipped):
                        yield from rows_of(whole.name, gap, methods, skipped=skipped, sensor=sensor)
    if options.slider is None:
        return
    clip = read_clip("slider_depth (true events)", open_frames(options.slider / "images"), max_frames=5)
    height, width = clip.frames_THW3.shape[1:3]
    events = open_events(options.slider / "events.txt", size=(width, height)).read()
    for first in range(3):
        part = slice(first, first + 3)
        triplet = Clip(clip.name, clip.frames_THW3[part], clip.times_T[part], (events,))
        for gap in gaps(triplet, 1):
            yield from rows_of(clip.name, gap, methods, skipped=1, sensor=0)


def means(rows: list[Row], key: str, *by: str) -> dict[tuple, float]:
    found: dict[tuple, list[float]] = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in by)].append(row[key])
    return {name: float(np.mean(values)) for name, values in found.items()}


def lead(rows: list[Row]) -> tuple[float, float, float]:
    """(mean, lower, upper) of how much better the fusion is than the best free method of each clip and number."""
    by_clip = means(rows, "psnr", "clip", "skipped", "method")
    best = {
        (clip, skipped): max(FREE, key=lambda name: by_clip[clip, skipped, name])
        for clip, skipped, _ in by_clip
    }
    scores = {(r["clip"], r["skipped"], r["gap"], r["sensor"], r["method"]): r["psnr"] for r in rows}
    leads = np.array(
        [value - scores[(*key[:4], best[key[:2]])] for key, value in scores.items() if key[4] == "fusion"]
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
         f"{by_clip[clip, skipped, 'fusion'] - max(by_clip[clip, skipped, name] for name in FREE):+.2f}"]
        for clip in clips
        for skipped in SKIPPED
        if (clip, skipped, "dis") in by_clip
    ]  # fmt: skip
    head = ["clip", "left out", *names, "fusion over the best free one"]
    parts += ["Clip by clip, PSNR in dB:\n", harness.table(head, lines) + "\n"]
    mean, low, high = report["lead"]
    worst = min(float(line[-1]) for line in lines)
    parts.append(
        f"Over all gaps the fusion is {mean:+.2f} dB ({low:+.2f} to {high:+.2f}) from the best free method of each "
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
    methods: dict[str, Interpolation] = {
        "fusion": pipeline.fusion,
        "timereplayer": pipeline.method("timereplayer"),
    }
    methods |= {name: BASELINES[name]() for name in (*FREE, "blend")}
    rows = list(measured(options, methods))
    report = harness.provenance("interpolation-held-out") | {
        "model": options.model,
        "methods": list(methods),
        "lead": lead(rows),
        "rows": rows,
    }
    report["command"] = (
        f"python -m {__spec__.name} --clips FOLDER --slider FOLDER --gaps {options.gaps} --sensors {options.sensors}"
    )
    harness.save(options.output, "interpolation-held-out", report, page(report))


if __name__ == "__main__":
    main()
