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
    MethodName,
    OutputOptions,
    RateOption,
)

cli = CommandLine(APP)


@cli.command()
def interpolate(
    factor: Annotated[int | None, typer.Option("--factor", help="Frame rate multiplier.")] = None,
    times: Annotated[
        str | None,
        typer.Option("--times", metavar="T,T...", help="Output only the frames at these times: 40ms,0.5s."),
    ] = None,
    method: Annotated[
        MethodName,
        typer.Option(
            "--method",
            help="auto: the model, which fuses flow and events; dis: optical flow, which needs no events.",
        ),
    ] = "auto",
    *,
    frames: FrameOptions,
    target: OutputOptions,
    events: EventOptions,
    model: ModelOptions,
) -> None:
    """Interpolate frames at any time between two frames: slow motion, or a higher frame rate.

    A video at real speed keeps its sound.
    """
    from multiway_event_vision.times import microseconds

    from multiway_frame_interpolation.interpolation import interpolate as make

    wanted = [] if times is None else [microseconds(text, "--times") for text in times.split(",")]
    with counting("making frames") as on_progress:
        made = make(
            frames,
            events,
            target,
            model,
            method=method,
            factor=factor,
            times=wanted,
            on_progress=on_progress,
        )
        lines = list(made)
    APP.note(*lines)
    write_stdout(f"{target.output}\n")


@cli.command()
def extrapolate(
    duration: Annotated[
        str, typer.Option("--duration", metavar="TIME", help="Duration to extrapolate: 200ms.")
    ],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Time of the input frame. \\[default: the last]"),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            "--every", metavar="TIME", help="Time between output frames. \\[default: 1/4 of the input period]"
        ),
    ] = None,
    *,
    frames: FrameOptions,
    target: OutputOptions,
    events: EventOptions,
    model: ModelOptions,
) -> None:
    """Extrapolate frames from one frame and the events after it."""
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
        list[Path] | None, typer.Argument(metavar="VIDEO|DIR...", help="\\[default: drawn moving shapes]")
    ] = None,
    skip: Annotated[int, typer.Option("--skip", help="Frames skipped between two input frames.")] = 3,
    width: Annotated[int, typer.Option("--width", help="Downscale wider frames to this width.")] = 320,
    input_fps: RateOption = None,
    *,
    events: EventOptions,
    model: ModelOptions,
    report: GapReport,
) -> None:
    """Evaluate on skipped frames: PSNR and SSIM against blending, optical flow and event integration.

    Without --events a sensor with random thresholds and noise, unknown to all methods, is simulated.
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
        str,
        typer.Option(
            "--preset",
            help="frame-fusion-small, time-replayer-small, time-replayer-small-supervised, smoke, frame-fusion-smoke.",
        ),
    ] = "frame-fusion-small",
    *,
    training: TrainingOptions,
) -> None:
    """Train on --data: videos or folders of pictures, whose events are simulated.

    frame-fusion presets learn from frames that are left out; every sixth clip is held out. time-replayer presets need
    no true frame between; the last 30 % of each clip is held out. The smoke presets take a minute and may draw shapes.
    """
    training.train(APP, preset)


cli.add_demo(
    "Open the demo page: interpolate skipped frames of a video, beside blending and optical flow.",
    max_file_size="200mb",
)
cli.add_serve()
