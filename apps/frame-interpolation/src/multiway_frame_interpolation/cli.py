"""The command line. Torch and OpenCV are not imported here: ``--help`` answers at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    CommandLine,
    ModelOptions,
    TrainingOptions,
    counting,
    write_stdout,
)

from multiway_frame_interpolation.app import APP
from multiway_frame_interpolation.options import (
    EventOptions,
    FrameOptions,
    GapReport,
    OutputOptions,
    RateOption,
)

cli = CommandLine(APP)


@cli.command()
def interpolate(
    factor: Annotated[
        int | None, typer.Option("--factor", help="So many times the frames, evenly spread.")
    ] = None,
    times: Annotated[
        str | None, typer.Option("--times", metavar="T,T...", help="Frames at these times only: 40ms,0.5s.")
    ] = None,
    *,
    frames: FrameOptions,
    target: OutputOptions,
    events: EventOptions,
    model: ModelOptions,
) -> None:
    """Make frames between the frames, at any time: N-fold slow motion, or a higher rate."""
    from multiway_event_vision.times import microseconds

    from multiway_frame_interpolation.interpolation import interpolate as make

    wanted = [] if times is None else [microseconds(text, "--times") for text in times.split(",")]
    with counting("making frames") as on_progress:
        made = make(frames, events, target, model, factor=factor, times=wanted, on_progress=on_progress)
        lines = list(made)
    APP.note(*lines)
    write_stdout(f"{target.output}\n")


@cli.command()
def extrapolate(
    duration: Annotated[str, typer.Option("--duration", metavar="TIME", help="How far to go: 200ms.")],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Go on from the frame here. [default: the last]"),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="TIME", help="A frame so often. [default: 1/4 of a frame's time]"),
    ] = None,
    *,
    frames: FrameOptions,
    target: OutputOptions,
    events: EventOptions,
    model: ModelOptions,
) -> None:
    """Make the frames after a frame, from that frame and the events since then."""
    from multiway_event_vision.times import microseconds

    from multiway_frame_interpolation.interpolation import extrapolate as make

    with counting("making frames") as on_progress:
        made = make(
            frames,
            events,
            target,
            model,
            start=None if start is None else microseconds(start, "--from"),
            duration=microseconds(duration, "--duration"),
            every=None if every is None else microseconds(every, "--every"),
            on_progress=on_progress,
        )
        lines = list(made)
    APP.note(*lines)
    write_stdout(f"{target.output}\n")


@cli.command()
def evaluate(
    sources: Annotated[
        list[Path] | None, typer.Argument(metavar="VIDEO|DIR...", help="[default: drawn moving shapes]")
    ] = None,
    skip: Annotated[int, typer.Option("--skip", help="Frames left out between two that are kept.")] = 3,
    width: Annotated[int, typer.Option("--width", help="Scale wider frames down to so many pixels.")] = 320,
    input_fps: RateOption = None,
    *,
    events: EventOptions,
    model: ModelOptions,
    report: GapReport,
) -> None:
    """Leave frames out, make them again, and measure: PSNR and SSIM beside blending, optical flow and integration.

    Without --events they are those of a simulated sensor with random thresholds and noise that no method is told.
    """
    from multiway_frame_interpolation.evaluation import evaluate_videos, summary

    with counting("measuring") as on_progress:
        found, lines = evaluate_videos(
            sources or [],
            replace(events, simulate=events.events is None),
            model=model,
            skipped=skip,
            limit=report.limit,
            width=width,
            fps=input_fps,
            on_progress=on_progress,
        )
    APP.note(*lines)
    report.publish(found, summary(found))


@cli.command()
def train(
    preset: Annotated[
        str, typer.Option("--preset", help="time-replayer-small, time-replayer-small-supervised, smoke.")
    ] = "time-replayer-small",
    *,
    training: TrainingOptions,
) -> None:
    """Train on --data, videos or folders of pictures, without frames between as truth.

    The first 70 % of each clip are trained on, the rest is held out.
    """
    training.train(APP, preset)


cli.add_demo(
    "Open a page: frames left out of a video made again, beside blending and optical flow.",
    max_file_size="200mb",
)
cli.add_serve()
