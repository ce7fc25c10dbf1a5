"""Frames made between frames: TimeReplayer, its supervised twin, and methods that are not trained, in one run.

    python -m benchmarks.event_vision.interpolation_quality --clips FOLDER --supervised MODEL
        [--model bundled:time-replayer-small]
        [--held-out NAME ...] [--slider FOLDER] [--gaps 6] [--seed 100] [--output DIR]

* **clips**: videos of FOLDER at most 320 pixels wide, their first 300 frames; of those that were trained on the last
  30 %, of `--held-out` ones the first 50 frames. 1, 3 and 7 frames are left out between two that are kept; events come
  from a simulated sensor with random thresholds, threshold mismatch, noise, leak and a refractory time that no method
  is told (`multiway_event_vision.time_replayer.clips.hidden_sensor`), not one of training.
* **extrapolation**: the 7 frames left out, from the frame before them and the events alone.
* **slider**: three triplets of slider_depth (DAVIS240C): true events, true middle frames.
* **sprites**: drawn textured discs that turn and accelerate; `share` of their way is due to acceleration (0: constant
  speed, 1: from rest).

`moving` are clips in which a blend of 3 frames left out stays below 32 dB.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import cv2
import numpy as np
import torch
from multiway_core.evaluation.machine import installed_versions
from multiway_event_vision.events import concatenate
from multiway_event_vision.formats import open_events
from multiway_event_vision.metrics.frame_quality import psnr, ssim, ssim_luma
from multiway_event_vision.simulator import Sensor
from multiway_event_vision.time_replayer.baselines import BASELINES, EventIntegration, Interpolation, Repeat
from multiway_event_vision.time_replayer.clips import (
    Clip,
    clip_name,
    cut,
    hidden_sensor,
    read_clip,
    record,
)
from multiway_event_vision.time_replayer.frames import open_frames
from multiway_event_vision.time_replayer.interpolator import BUNDLED, FrameInterpolator
from multiway_event_vision.time_replayer.protocol import Gap, extrapolate, fill, gaps, spread
from multiway_event_vision.time_replayer.recipe import MAX_FRAMES, TRAINED_SHARE, WIDTH

SKIPPED = (1, 3, 7)
HELD_OUT_FRAMES = 50
MOVING_BELOW = 32.0
SHARES = (0.0, 0.5, 1.0)
Row = dict[str, Any]


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def rows_of(scene: str, gap: Gap, methods: dict[str, Interpolation], **facts: object) -> Iterator[Row]:
    """A row for every method and frame."""
    for name, frames in fill(gap, methods).items():
        for index, (frame, truth) in enumerate(zip(frames, gap.truth_THW3, strict=True)):
            yield {
                "scene": scene,
                "method": name,
                "place": index + 1,
                "centre": index == gap.centre,
                "psnr": psnr(frame, truth),
                "ssim": ssim(frame, truth),
                "ssim_luma": ssim_luma(frame, truth),
                **facts,
            }


def test_clips(options: argparse.Namespace) -> Iterator[Clip]:
    for number, path in enumerate(sorted(options.clips.iterdir())):
        whole = read_clip(clip_name(path), open_frames(path, width=WIDTH), max_frames=MAX_FRAMES)
        if clip_name(path) in options.held_out:
            part = cut(whole, 0.0, min(1.0, HELD_OUT_FRAMES / len(whole)))
        else:
            part = cut(whole, TRAINED_SHARE, 1.0)
        yield record(part, [hidden_sensor([options.seed, number])], seed=options.seed + number)


def measure_clips(
    options: argparse.Namespace, methods: dict[str, Interpolation]
) -> tuple[list[Row], list[Row]]:
    between: list[Row] = []
    beyond: list[Row] = []
    for clip in test_clips(options):
        for skipped in SKIPPED:
            found = list(gaps(clip, skipped)) if len(clip) > skipped + 1 else []
            for gap in spread(found, options.gaps):
                between += rows_of(clip.name, gap, methods, skipped=skipped)
            if skipped == max(SKIPPED):
                beyond += measure_beyond(clip.name, found, options.gaps, methods)
        note(f"{clip.name}: {len(clip)} frames, {len(clip.recordings[0]):,} events")
    return between, beyond


def measure_beyond(scene: str, found: list[Gap], most: int, methods: dict[str, Interpolation]) -> list[Row]:
    """Integration has the thresholds that fitted the gap before."""
    rows = []
    integration = EventIntegration()
    learned = {name: m for name, m in methods.items() if isinstance(m, FrameInterpolator)}
    chosen = spread(found[1:], most)
    for before, gap in pairwise(found):
        list(integration.interpolate(before.first, before.second, before.events, ()))
        if not any(gap is other for other in chosen):
            continue
        made = extrapolate(gap, {"hold": Repeat(), "integration": integration, **learned})
        for name, frames in made.items():
            for index, (frame, truth) in enumerate(zip(frames, gap.truth_THW3, strict=True)):
                rows.append(
                    {"scene": scene, "method": name, "horizon": index + 1, "psnr": psnr(frame, truth)}
                )
    return rows


def measure_slider(folder: Path, methods: dict[str, Interpolation]) -> list[Row]:
    clip = read_clip("slider_depth", open_frames(folder / "images"), max_frames=5)
    height, width = clip.frames_THW3.shape[1:3]
    events = open_events(folder / "events.txt", size=(width, height)).read()
    rows = []
    for first in range(3):
        part = Clip(
            clip.name, clip.frames_THW3[first : first + 3], clip.times_T[first : first + 3], (events,)
        )
        for gap in gaps(part, 1):
            rows += list(rows_of(f"frame {first + 1}", gap, methods))
    return rows


class Sprites:
    """Four textured discs over textured ground; `share` of their ways and turns is due to acceleration."""

    width, height, duration_us, frames = 160, 128, 320_000, 9

    def __init__(self, seed: int, share: float) -> None:
        generator = np.random.default_rng(seed)
        self.share = share
        self.ground_HW3 = self._texture(generator, self.height, self.width)
        self.discs = []
        for _ in range(4):
            radius = int(generator.integers(12, 20))
            angle = generator.uniform(0, 2 * np.pi)
            self.discs.append(
                (
                    self._texture(generator, 2 * radius + 1, 2 * radius + 1),
                    generator.uniform(30, [self.width - 30, self.height - 30]),
                    generator.uniform(16, 32) * np.array([np.cos(angle), np.sin(angle)]),
                    generator.uniform(-60, 60),  # degrees
                )
            )

    @staticmethod
    def _texture(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
        coarse = generator.uniform(0.05, 0.95, (height // 5 + 2, width // 5 + 2)).astype(np.float32)
        grey = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        return grey[..., None] * generator.uniform(0.8, 1.0, 3).astype(np.float32)

    def draw(self, t: int) -> np.ndarray:
        """(H, W, 3) float, 0 to 1."""
        u = t / self.duration_us
        way = (1 - self.share) * u + self.share * u**2
        image = self.ground_HW3.copy()
        for texture, start, path, turn in self.discs:
            radius = texture.shape[0] // 2
            x, y = start + way * path
            matrix = cv2.getRotationMatrix2D((radius, radius), way * turn, 1.0)
            matrix[:, 2] += (x - radius, y - radius)
            size = (self.width, self.height)
            drawn = cv2.warpAffine(texture, matrix, size, borderMode=cv2.BORDER_REPLICATE)
            rows, columns = np.mgrid[: self.height, : self.width]
            cover = np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1)[..., None]
            image = cover * drawn + (1 - cover) * image
        return image.clip(0, 1).astype(np.float32)

    def clip(self, seed: int) -> Clip:
        """9 frames, and events from 400 pictures a second."""
        times = np.linspace(0, self.duration_us, self.frames).round().astype(np.int64)
        sensor = Sensor(self.width, self.height, hidden_sensor([seed, 7]), seed=seed)
        parts = [
            sensor.show(self.draw(t) @ np.array([0.299, 0.587, 0.114], np.float32), t)
            for t in range(0, self.duration_us + 1, 2500)
        ]
        frames = np.stack([np.rint(255 * self.draw(int(t))).astype(np.uint8) for t in times])
        return Clip(f"sprites {seed}", frames, times, (concatenate(parts),))


def measure_sprites(methods: dict[str, Interpolation], seeds: int) -> list[Row]:
    rows = []
    for share in SHARES:
        for seed in range(seeds):
            clip = Sprites(seed, share).clip(seed)
            for gap in gaps(clip, 7):
                rows += list(rows_of(clip.name, gap, methods, share=share))
    return rows


def means(rows: list[Row], keys: tuple[str, ...], metric: str = "psnr") -> dict[tuple, float]:
    """Mean over scenes of the mean over each one's frames, by `keys`."""
    values: dict[tuple, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        values[tuple(row[key] for key in keys)][row["scene"]].append(row[metric])
    return {key: float(np.mean([np.mean(v) for v in scenes.values()])) for key, scenes in values.items()}


def table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def grid(rows: list[Row], methods: list[str], key: str, columns: list[Any], metric: str = "psnr") -> str:
    found = means(rows, ("method", key), metric)
    digits = 2 if metric == "psnr" else 3
    lines = [
        [name, *(f"{found[name, c]:.{digits}f}" if (name, c) in found else "" for c in columns)]
        for name in methods
    ]
    return table([key, *map(str, columns)], lines)


def page(report: dict[str, Any]) -> str:
    names = report["methods"]
    between, machine = report["between"], report["machine"]
    blend = means([r for r in between if r["method"] == "blend" and r["skipped"] == 3], ("scene",))
    moving = sorted(scene for (scene,), value in blend.items() if value < MOVING_BELOW)
    parts = [
        "# Frames between frames\n",
        f"{machine['cpu']}, one thread, load average {machine['load_average']:.1f}, {report['when']}; seed "
        f"{report['seed']}. `{report['command']}`; what is measured stands at the head of the script. PSNR in dB over"
        ' all frames left out ("whole") where not said otherwise; means over clips.\n',
        f"## Clips that move ({', '.join(moving)})\n",
    ]
    chosen = [r for r in between if r["scene"] in moving]
    parts += [
        grid(chosen, names, "skipped", list(SKIPPED)),
        "Centre frames only:\n",
        grid([r for r in chosen if r["centre"]], names, "skipped", list(SKIPPED)),
        "SSIM, mean of the channels:\n",
        grid(chosen, names, "skipped", list(SKIPPED), "ssim"),
        "SSIM on luma:\n",
        grid(chosen, names, "skipped", list(SKIPPED), "ssim_luma"),
        f"## Clip by clip ({', '.join(report['held_out'])}: never trained on)\n",
    ]
    scenes = sorted({r["scene"] for r in between})
    by_scene = means(between, ("scene", "skipped", "method"))
    lines = [
        [scene, str(skipped), *(f"{by_scene[scene, skipped, name]:.2f}" for name in names)]
        for scene in scenes
        for skipped in SKIPPED
        if (scene, skipped, "blend") in by_scene
    ]
    parts.append(table(["clip", "skipped", *names], lines))
    beyond = report["beyond"]
    parts += [
        "## Extrapolation: frames after the last one, moving clips\n",
        grid(
            [r for r in beyond if r["scene"] in moving],
            list(dict.fromkeys(r["method"] for r in beyond)),
            "horizon",
            list(range(1, max(SKIPPED) + 1)),
        ),
    ]
    if report["slider"]:
        parts += [
            "## slider_depth: true events, true middle frames\n",
            grid(report["slider"], names, "scene", sorted({r["scene"] for r in report["slider"]})),
            "SSIM:\n",
            grid(report["slider"], names, "scene", sorted({r["scene"] for r in report["slider"]}), "ssim"),
        ]
    parts += [
        "## Accelerating sprites, 7 frames left out\n",
        grid(report["sprites"], names, "share", list(SHARES)),
    ]
    return "\n".join(parts)


def main() -> None:
    parser = harness.parser(__doc__, "event_vision")
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--supervised")
    parser.add_argument("--held-out", nargs="*", default=[])
    parser.add_argument("--slider", type=Path)
    parser.add_argument("--gaps", type=int, default=6)
    parser.add_argument("--sprites", type=int, default=4)
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    methods: dict[str, Interpolation] = {name: build() for name, build in BASELINES.items()}
    methods["timereplayer"] = FrameInterpolator.from_pretrained(options.model)
    if options.supervised:
        methods["supervised"] = FrameInterpolator.from_pretrained(options.supervised)
    between, beyond = measure_clips(options, methods)
    report = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": harness.machine(),
        "versions": installed_versions(),
        "command": f"python -m {__spec__.name} --gaps {options.gaps} --sprites {options.sprites}",
        "seed": options.seed,
        "held_out": options.held_out,
        "methods": list(methods),
        "between": between,
        "beyond": beyond,
        "slider": measure_slider(options.slider, methods) if options.slider else [],
        "sprites": measure_sprites(methods, options.sprites),
    }
    harness.save(options.output, "interpolation-quality", report, page(report))


if __name__ == "__main__":
    main()
