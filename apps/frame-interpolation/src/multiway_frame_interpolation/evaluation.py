"""Measuring: frames left out of videos, made again, and held against the true ones, beside simpler methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.app import ModelOptions, load_pipeline
from multiway_core.errors import InputError
from multiway_core.evaluation import Report, Sample, evaluate
from multiway_event_vision.events import concatenate
from multiway_event_vision.interpolation import InterpolationPipeline
from multiway_event_vision.metrics.frame_quality import lpips_distance, psnr, ssim, ssim_luma
from multiway_event_vision.time_replayer.baselines import BASELINES, Image, Interpolation
from multiway_event_vision.time_replayer.clips import (
    Clip,
    clip_name,
    drawn_clip,
    hidden_sensor,
    read_clip,
    record,
)
from multiway_event_vision.time_replayer.frame_events import open_frame_events
from multiway_event_vision.time_replayer.frames import open_frames
from multiway_event_vision.time_replayer.protocol import Gap, checks, fill, gaps, spread

from multiway_frame_interpolation.app import APP
from multiway_frame_interpolation.options import EventOptions

OURS = ModelOptions(APP.model)
MAX_FRAMES = 300  # that are read of a video
SHAPES = "moving shapes"
_LEARNED = ("auto", "fusion", "timereplayer")
_QUICK_GAPS = 3


def evaluate_videos(
    sources: Sequence[Path],
    events: EventOptions,
    *,
    model: ModelOptions = OURS,
    skipped: int = 3,
    limit: int = 10,
    width: int = 320,
    fps: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Report, list[str]]:
    """(a report of PSNR and SSIM by method and video, lines about what is missing).

    Without sources, drawn moving shapes. Raises InputError: bad options, or nothing could be measured; DataError.
    """
    if skipped < 1 or limit < 1:
        raise InputError(f"--skip {skipped}, --limit {limit}: expected 1 or more")
    if events.events is not None and len(sources) != 1:
        raise InputError(f"--events belong to one video; {len(sources)} are given")
    pipeline: InterpolationPipeline = load_pipeline(APP, model)
    methods: dict[str, Interpolation] = {} if pipeline.fusion is None else {"fusion": pipeline.fusion}
    methods["timereplayer"] = pipeline.replayer
    methods |= {name: build() for name, build in BASELINES.items()}
    perceptual, missing = lpips_distance()
    scores: dict[str, Callable[[Image, Image], float]] = {"psnr": psnr, "ssim": ssim, "ssim luma": ssim_luma}
    if perceptual is not None:
        scores["lpips"] = perceptual
    done = 0

    def counted(row: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done)

    report = evaluate(
        _samples(sources, events, skipped, limit, width, fps),
        lambda beside: _filled(beside, methods, pipeline),
        {
            f"{score} {name}": _mean_of(function, name)
            for score, function in scores.items()
            for name in ("auto", *methods)
        },
        name=f"{model.model}, {skipped} frames left out",
        seed=events.seed,
        group=lambda sample: sample.name.rsplit(" ", 1)[0],
        on_sample=counted,
    )
    return report, [missing] if missing else []


def summary(report: Report) -> str:
    """A line a method and video, in Markdown: the means of all scores."""
    methods = [name for name in (*_LEARNED, *BASELINES) if f"psnr {name}" in report.metrics]
    scores = list(dict.fromkeys(name.rsplit(" ", 1)[0] for name in report.metrics))
    lines = [f"{report.name}; means of {report.n - report.failed} gaps", ""]
    lines.append(f"| video | method | {' | '.join(scores)} |")
    lines.append("|" + " --- |" * (len(scores) + 2))
    for video, metrics in report.groups.items():
        for method in methods:
            cells = (
                f"{metrics[f'{score} {method}'].mean:.{2 if score == 'psnr' else 4}f}" for score in scores
            )
            lines.append(f"| {video} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def quick_evaluation() -> Report:
    """The bundled model on drawn shapes: about a minute of one core."""
    report, _ = evaluate_videos([], EventOptions(simulate=True), skipped=7, limit=_QUICK_GAPS)
    return report


def _filled(
    beside: tuple[Gap | None, Gap, Gap | None],
    methods: dict[str, Interpolation],
    pipeline: InterpolationPipeline,
) -> dict[str, list[Image]]:
    """The frames of every method in the middle one of three gaps; `auto` checks itself on the frames around it."""
    auto, gap = pipeline.auto(), beside[1]
    for check in checks(*beside):
        auto.check(*check)
    return fill(gap, {"auto": auto, **methods})


def _mean_of(score: Callable[[Image, Image], float], method: str) -> Callable[[Any, Any], float]:
    def mean(made: dict[str, list[Image]], truth: Sequence[Image]) -> float:
        return float(np.mean([score(*pair) for pair in zip(made[method], truth, strict=True)]))

    return mean


def _samples(
    sources: Sequence[Path], events: EventOptions, skipped: int, limit: int, width: int, fps: float | None
) -> Iterator[Sample]:
    for clip in _clips(sources, events, width, fps):
        row = [None, *gaps(clip, skipped), None]
        for before, gap, after in spread(list(zip(row, row[1:], row[2:], strict=False)), limit):
            assert gap is not None
            yield Sample(f"{clip.name} {gap.first.t}us", (before, gap, after), gap.truth_THW3)


def _clips(sources: Sequence[Path], events: EventOptions, width: int, fps: float | None) -> Iterator[Clip]:
    if not sources:
        yield shapes_clip(events.seed)
    for number, path in enumerate(sources):
        clip = read_clip(
            clip_name(path), open_frames(path, width=width, frames_per_second=fps), max_frames=MAX_FRAMES
        )
        if events.events is None:
            yield record(clip, [hidden_sensor([events.seed, number])], seed=events.seed + number)
        else:
            yield _recorded(clip, events)


def _recorded(clip: Clip, options: EventOptions) -> Clip:
    assert options.events is not None
    offset = options.offset_us()
    recording = open_frame_events(
        options.events,
        clip.width,
        clip.height,
        scale=options.scale,
        time_unit=options.time_unit,
        columns=options.columns,
        repair=options.repair,
    )
    start, end = int(clip.times_T[0]) - offset, int(clip.times_T[-1]) - offset
    found = recording.read(start, end + 1)
    if not len(found):
        raise InputError(
            f"{options.events}: no events from {start} us to {end} us, while the frames last; see --event-offset"
        )
    # Gaps before the first and after the last event would measure blending.
    covered = (clip.times_T >= found.t[0] + offset - 40_000) & (clip.times_T <= found.t[-1] + offset + 40_000)
    moved = type(found)(found.t + offset, found.x, found.y, found.p, found.width, found.height)
    return Clip(clip.name, clip.frames_THW3[covered], clip.times_T[covered], (concatenate([moved]),))


def shapes_clip(seed: int = 0, frames: int = 25) -> Clip:
    """Drawn shapes with a hidden sensor's events."""
    return record(drawn_clip(seed, frames), [hidden_sensor([seed, 0])], seed=seed)
