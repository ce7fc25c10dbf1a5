"""``info``, ``convert``, ``render`` and ``simulate``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import JsonOption, counting, note, write_stdout
from multiway_core.errors import InputError, MultiwayError

from multiway_event_detection.commands.shared import (
    ColumnsOption,
    FormatOption,
    OverwriteOption,
    RecordingArgument,
    RepairOption,
    SizeOption,
    UnitOption,
    tell,
)
from multiway_event_detection.options import PROGRAM, Taking, ViewName


def info(
    recordings: Annotated[
        list[Path],
        typer.Argument(metavar="RECORDING...", help="DAT, RAW, HDF5, AEDAT4, .es, .bin, npz, text."),
    ],
    size: SizeOption = None,
    time_unit: UnitOption = None,
    columns: ColumnsOption = None,
    repair: RepairOption = False,
    json: JsonOption = False,
) -> None:
    """Say what recordings hold: format, sensor, events, duration, rate, share of brighter events.

    Exit code 0: all were read. 1: some were not (a line on standard error each). 2: none was.
    """
    from multiway_event_detection.info import SCHEMA, describe_recording

    taking = Taking(size, time_unit, columns, repair)
    found, failed = [], 0
    for path in recordings:
        try:
            with counting(path.name) as on_progress:
                described = describe_recording(path, taking, on_progress)
        except InputError:  # an option, which holds for all
            raise
        except MultiwayError as error:
            failed += 1
            note(f"{PROGRAM}: {error}")
            continue
        if json:
            found.append(described.to_json())
        else:
            write_stdout(described.to_text())
    if json and failed < len(recordings):
        document = {"schema": SCHEMA, "recordings": found}
        write_stdout(json_module.dumps(document, ensure_ascii=False, indent=2) + "\n")
    if failed:
        raise typer.Exit(2 if failed == len(recordings) else 1)


def convert(
    recording: RecordingArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The recording to write.")],
    format: FormatOption = None,
    size: SizeOption = None,
    time_unit: UnitOption = None,
    columns: ColumnsOption = None,
    repair: RepairOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a recording in another format, in bounded memory, whole or not at all."""
    from multiway_event_detection.convert import convert_recording

    taking = Taking(size, time_unit, columns, repair)
    with counting("converting") as on_progress:
        found = convert_recording(
            recording, output, taking, format=format, overwrite=overwrite, on_progress=on_progress
        )
        lines = list(found)
    tell(lines)
    write_stdout(f"{output}\n")


def render(
    recording: RecordingArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT", help="A video .mp4, a picture .png, or a new folder."),
    ],
    view: Annotated[
        ViewName,
        typer.Option(
            "--view",
            help="frame: brighter minus darker; count: all; surface: newest events; voxel: a time bin.",
        ),
    ] = "frame",
    window: Annotated[
        str | None, typer.Option("--window", metavar="TIME", help="Of a picture: 10ms. [default: 1/fps]")
    ] = None,
    fps: Annotated[float, typer.Option("--fps", help="Pictures a second of the video.")] = 30.0,
    start: Annotated[
        str, typer.Option("--start", metavar="TIME", help="From here on, after the first event.")
    ] = "0",
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="Up to here, after the first event.")
    ] = None,
    scale: Annotated[int, typer.Option("--scale", help="Each pixel as so many a side, 1 to 16.")] = 1,
    decay: Annotated[
        str | None, typer.Option("--decay", metavar="TIME", help="Of the surface. [default: the window]")
    ] = None,
    bin: Annotated[
        int | None, typer.Option("--bin", help="Of the window's 5 time bins, from 0. [default: 2]")
    ] = None,
    size: SizeOption = None,
    time_unit: UnitOption = None,
    columns: ColumnsOption = None,
    repair: RepairOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Draw a recording as a video, as one picture (the window at --start), or as a folder of pictures."""
    from multiway_event_detection.render import RenderOptions, render_recording

    taking = Taking(size, time_unit, columns, repair)
    options = RenderOptions(
        view=view, fps=fps, window=window, start=start, end=end, scale=scale, decay=decay, bin=bin
    )
    with counting("drawing") as on_progress:
        found = render_recording(
            recording, output, taking, options, overwrite=overwrite, on_progress=on_progress
        )
        lines = list(found)
    tell(lines)
    write_stdout(f"{output}\n")


def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The recording to write.")],
    source: Annotated[
        Path | None, typer.Argument(metavar="[VIDEO|DIR]", help="A video, or a folder of pictures.")
    ] = None,
    shapes: Annotated[
        bool, typer.Option("--shapes", help="Moving shapes instead, their boxes in *_bbox.npy beside it.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0.0, help="Change of log intensity an event. [default: 0.2]"),
    ] = None,
    threshold_off: Annotated[
        float | None,
        typer.Option("--threshold-off", min=0.0, help="Of darker events. [default: as --threshold]"),
    ] = None,
    threshold_sigma: Annotated[
        float | None,
        typer.Option("--threshold-sigma", min=0.0, help="Spread between pixels. [default: 0.03]"),
    ] = None,
    noise: Annotated[
        float | None, typer.Option("--noise", min=0.0, help="Hertz a pixel. [default: 0; 0.5 with --shapes]")
    ] = None,
    leak: Annotated[
        float | None, typer.Option("--leak", min=0.0, help="Hertz a pixel. [default: 0.1]")
    ] = None,
    refractory: Annotated[
        str | None, typer.Option("--refractory", metavar="TIME", help="Blind after an event. [default: 0]")
    ] = None,
    cutoff: Annotated[
        float | None, typer.Option("--cutoff", min=0.0, help="Hertz of the pixels' low-pass. [default: none]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of thresholds, noise and shapes.")] = 0,
    fps: Annotated[
        float | None, typer.Option("--fps", help="Pictures a second. [default: the video's, images.txt]")
    ] = None,
    width: Annotated[int | None, typer.Option("--width", help="Scale the video to so many pixels.")] = None,
    upsample: Annotated[
        int, typer.Option("--upsample", help="So many times the frames, along optical flow.", min=1, max=1000)
    ] = 1,
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="Of --shapes. [default: 128x96]")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="TIME", help="Of --shapes. [default: 100ms]")
    ] = None,
    label_every: Annotated[
        str | None, typer.Option("--label-every", metavar="TIME", help="Of --shapes. [default: 10ms]")
    ] = None,
    format: FormatOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Make a recording: what an event camera would send before a video, pictures, or moving shapes."""
    from multiway_event_detection.simulate import SensorOptions, simulate_frames, simulate_shapes

    sensor = SensorOptions(
        threshold=threshold,
        threshold_off=threshold_off,
        threshold_sigma=threshold_sigma,
        noise=noise,
        leak=leak,
        refractory=refractory,
        cutoff=cutoff,
    )
    of_shapes = {"--size": size, "--duration": duration, "--label-every": label_every}
    of_frames = {"--fps": fps, "--width": width, "--upsample": None if upsample == 1 else upsample}
    if shapes == (source is not None):
        raise InputError("give a video, a folder of pictures, or --shapes: one of them")
    stray = [name for name, value in (of_frames if shapes else of_shapes).items() if value is not None]
    if stray:
        raise InputError(f"{', '.join(stray)}: {'not with --shapes' if shapes else 'only with --shapes'}")
    with counting("simulating") as on_progress:
        if source is None:
            found = simulate_shapes(
                output,
                sensor,
                size=size,
                duration=duration or "100ms",
                label_every=label_every or "10ms",
                format=format,
                seed=seed,
                overwrite=overwrite,
                on_progress=on_progress,
            )
        else:
            found = simulate_frames(
                source,
                output,
                sensor,
                fps=fps,
                width=width,
                upsample=upsample,
                format=format,
                seed=seed,
                overwrite=overwrite,
                on_progress=on_progress,
            )
        lines = list(found)
    tell(lines)
    write_stdout(f"{output}\n")
