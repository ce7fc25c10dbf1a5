"""The command line. Torch and OpenCV are not imported here: ``--help`` answers at once."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    DeviceOption,
    JsonOption,
    ModelOption,
    SeedOption,
    counting,
    note,
    run,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_frame_interpolation.options import BUNDLED_MODEL, PROGRAM, EventsFrom, FramesFrom, Unit

cli = typer.Typer(
    name=PROGRAM,
    help="Frames between and after the frames of a video, from the events of an event camera.",
    no_args_is_help=True,
    add_completion=False,
)

SourceArgument = Annotated[
    Path, typer.Argument(metavar="VIDEO|DIR", help="A video, or a folder of pictures.")
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="A video .mp4, or a new folder of pictures.")
]
EventsOption = Annotated[
    Path | None,
    typer.Option("--events", metavar="FILE", help="Recording of the same pixels: RAW, HDF5, npz ..."),
]
SimulateOption = Annotated[
    bool,
    typer.Option("--simulate", help="Without an event camera: events of a sensor that sees these frames."),
]
ScaleOption = Annotated[
    int,
    typer.Option("--event-scale", help="What the events' coordinates are multiplied with (Time Lens: 32)."),
]
OffsetOption = Annotated[
    str, typer.Option("--event-offset", metavar="TIME", help="Add to the events' times: 20ms, -0.5s.")
]
UnitOption = Annotated[
    Unit | None, typer.Option("--time-unit", help="Of events in npz, HDF5 and text files.")
]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", metavar="txyp", help="Order of a text file's columns.")
]
RepairOption = Annotated[
    bool, typer.Option("--repair", help="Sort late events; leave out those off the frames and a cut end.")
]
RateOption = Annotated[
    float | None,
    typer.Option("--input-fps", help="Frames a second of what is read. [default: as the file says]"),
]
WidthOption = Annotated[int | None, typer.Option("--width", help="Scale the frames down to so many pixels.")]
FpsOption = Annotated[
    float | None, typer.Option("--fps", help="Frames a second of the video written. [default: real speed]")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]


def _tell(lines: list[str]) -> None:
    for line in lines:
        note(f"{PROGRAM}: {line}")


def _offset(text: str) -> int:
    from multiway_event_vision.times import microseconds

    sign = -1 if text.strip().startswith("-") else 1
    return sign * microseconds(text.strip().lstrip("+-"), "--event-offset")


@cli.command()
def interpolate(
    source: SourceArgument,
    output: OutputOption,
    events: EventsOption = None,
    simulate: SimulateOption = False,
    factor: Annotated[
        int | None, typer.Option("--factor", help="So many times the frames, evenly spread.")
    ] = None,
    times: Annotated[
        str | None, typer.Option("--times", metavar="T,T...", help="Frames at these times only: 40ms,0.5s.")
    ] = None,
    fps: FpsOption = None,
    width: WidthOption = None,
    input_fps: RateOption = None,
    event_scale: ScaleOption = 1,
    event_offset: OffsetOption = "0",
    time_unit: UnitOption = None,
    columns: ColumnsOption = None,
    repair: RepairOption = False,
    overwrite: OverwriteOption = False,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Make frames between the frames, at any time: N-fold slow motion, or a higher rate."""
    from multiway_event_vision.times import microseconds

    from multiway_frame_interpolation.making import Making
    from multiway_frame_interpolation.making import interpolate as make

    wanted = [] if times is None else [microseconds(text, "--times") for text in times.split(",")]
    taken = EventsFrom(events, simulate, event_scale, _offset(event_offset), time_unit, columns, repair, seed)
    with counting("making frames") as on_progress:
        lines = list(
            make(
                FramesFrom(source, input_fps, width),
                taken,
                output,
                Making(model, device, fps, overwrite),
                factor=factor,
                times=wanted,
                on_progress=on_progress,
            )
        )
    _tell(lines)
    write_stdout(f"{output}\n")


@cli.command()
def extrapolate(
    source: SourceArgument,
    output: OutputOption,
    duration: Annotated[str, typer.Option("--duration", metavar="TIME", help="How far to go: 200ms.")],
    events: EventsOption = None,
    simulate: SimulateOption = False,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Go on from the frame here. [default: the last]"),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="TIME", help="A frame so often. [default: 1/4 of a frame's time]"),
    ] = None,
    fps: FpsOption = None,
    width: WidthOption = None,
    input_fps: RateOption = None,
    event_scale: ScaleOption = 1,
    event_offset: OffsetOption = "0",
    time_unit: UnitOption = None,
    columns: ColumnsOption = None,
    repair: RepairOption = False,
    overwrite: OverwriteOption = False,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Make the frames after a frame, from that frame and the events since then."""
    from multiway_event_vision.times import microseconds

    from multiway_frame_interpolation.making import Making
    from multiway_frame_interpolation.making import extrapolate as make

    taken = EventsFrom(events, simulate, event_scale, _offset(event_offset), time_unit, columns, repair, seed)
    with counting("making frames") as on_progress:
        lines = list(
            make(
                FramesFrom(source, input_fps, width),
                taken,
                output,
                Making(model, device, fps, overwrite),
                start=None if start is None else microseconds(start, "--from"),
                duration=microseconds(duration, "--duration"),
                every=None if every is None else microseconds(every, "--every"),
                on_progress=on_progress,
            )
        )
    _tell(lines)
    write_stdout(f"{output}\n")


@cli.command()
def evaluate(
    sources: Annotated[
        list[Path] | None, typer.Argument(metavar="VIDEO|DIR...", help="[default: drawn moving shapes]")
    ] = None,
    skip: Annotated[int, typer.Option("--skip", help="Frames left out between two that are kept.")] = 3,
    events: EventsOption = None,
    limit: Annotated[
        int, typer.Option("--limit", help="At most so many gaps of each video, evenly spread.")
    ] = 10,
    width: Annotated[int, typer.Option("--width", help="Scale wider frames down to so many pixels.")] = 320,
    input_fps: RateOption = None,
    event_scale: ScaleOption = 1,
    event_offset: OffsetOption = "0",
    time_unit: UnitOption = None,
    columns: ColumnsOption = None,
    repair: RepairOption = False,
    report: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write report.json, .md and .png there."),
    ] = None,
    json: JsonOption = False,
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Leave frames out, make them again, and measure: PSNR and SSIM beside blending, optical flow and integration.

    Without --events they are those of a simulated sensor with random thresholds and noise that no method is told.
    """
    from multiway_frame_interpolation.evaluation import evaluate_videos, summary

    taken = EventsFrom(
        events, events is None, event_scale, _offset(event_offset), time_unit, columns, repair, seed
    )
    with counting("measuring") as on_progress:
        found, lines = evaluate_videos(
            sources or [],
            taken,
            model=model,
            device=device,
            skipped=skip,
            limit=limit,
            width=width,
            fps=input_fps,
            on_progress=on_progress,
        )
    _tell(lines)
    if report is not None:
        found.save(report)
    write_stdout(json_module.dumps(found.to_json(), indent=2) + "\n" if json else summary(found))


@cli.command()
def train(
    clips: Annotated[
        list[Path], typer.Argument(metavar="VIDEO|DIR...", help="Clips; their first 70 % are used.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The run's folder.")],
    preset: Annotated[
        str, typer.Option("--preset", help="time-replayer-small, time-replayer-small-supervised, smoke.")
    ] = "time-replayer-small",
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="End early, cleanly, after so long.")
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Train on videos, without frames between as truth; a run that was stopped goes on where it was."""
    from multiway_core.app import pick_device

    try:
        from multiway_event_vision.time_replayer import recipe
    except ModuleNotFoundError as error:
        raise InputError(f"training needs {error.name}: pip install '{PROGRAM}[training]'") from error
    folder = recipe.train(
        output, clips, preset=preset, minutes=minutes, seed=seed, device=str(pick_device(device))
    )
    write_stdout(f"{folder}\n")


@cli.command()
def demo(
    model: ModelOption = BUNDLED_MODEL,
    device: DeviceOption = "auto",
    host: Annotated[str, typer.Option("--host", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="[default: first free from 7860]")] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Open a public tunnel.")] = False,
) -> None:
    """Open a page: frames left out of a video made again, beside blending and optical flow."""
    from multiway_core.app import launch

    from multiway_frame_interpolation.demo import build_demo

    launch(build_demo(model, device=device), host, port, share=share, max_file_size="200mb")


def main() -> None:
    """Entry point of ``multiway-frame-interpolation``."""
    run(cli, name=PROGRAM)
