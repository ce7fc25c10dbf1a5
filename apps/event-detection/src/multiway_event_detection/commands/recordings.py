"""``info``, ``convert``, ``render`` and ``simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import JsonOption, OverwriteOption, counting, stdin_file, write_json, write_stdout
from multiway_core.errors import InputError, MultiwayError

from multiway_event_detection.app import APP
from multiway_event_detection.options import (
    FormatOption,
    RecordingArgument,
    RecordingOptions,
    RenderOptions,
    SensorOptions,
)


def info(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORDING|-...",
            help="DAT, RAW, HDF5, AEDAT4, .es, .bin, npz, text; - is stdin.",
            callback=stdin_file,
        ),
    ],
    json: JsonOption = False,
    *,
    recording_options: RecordingOptions,
) -> None:
    """Describe recordings: format, sensor size, number of events, duration, event rate, share of ON events.

    Exit code 0: all were read. 1: some were not (a line on standard error each). 2: none was.
    """
    from multiway_event_detection.info import SCHEMA, describe_recording

    found, failed = [], 0
    for path in recordings:
        try:
            with counting(path.name) as on_progress:
                described = describe_recording(path, recording_options, on_progress)
        except InputError:  # an option, which holds for all
            raise
        except MultiwayError as error:
            failed += 1
            APP.note(str(error))
            continue
        if json:
            found.append(described.to_json())
        else:
            write_stdout(described.to_text())
    if json and failed < len(recordings):
        document = {"schema": SCHEMA, "recordings": found}
        write_json(document)
    if failed:
        raise typer.Exit(2 if failed == len(recordings) else 1)


def convert(
    recording: RecordingArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The recording to write.")],
    format: FormatOption = None,
    overwrite: OverwriteOption = False,
    *,
    recording_options: RecordingOptions,
) -> None:
    """Convert a recording to another format, in bounded memory; a failed run writes nothing."""
    from multiway_event_detection.convert import convert_recording

    with counting("converting") as on_progress:
        found = convert_recording(
            recording, output, recording_options, format=format, overwrite=overwrite, on_progress=on_progress
        )
        lines = list(found)
    APP.note(*lines)
    write_stdout(f"{output}\n")


def render(
    recording: RecordingArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT", help="A video .mp4, a picture .png, or a new folder."),
    ],
    overwrite: OverwriteOption = False,
    *,
    options: RenderOptions,
    recording_options: RecordingOptions,
) -> None:
    """Render a recording as a video, one picture (the window at --start), or a folder of pictures."""
    from multiway_event_detection.render import render_recording

    with counting("drawing") as on_progress:
        found = render_recording(
            recording, output, recording_options, options, overwrite=overwrite, on_progress=on_progress
        )
        lines = list(found)
    APP.note(*lines)
    write_stdout(f"{output}\n")


def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The recording to write.")],
    source: Annotated[
        Path | None, typer.Argument(metavar="[VIDEO|DIR]", help="A video, or a folder of pictures.")
    ] = None,
    shapes: Annotated[
        bool, typer.Option("--shapes", help="Simulate moving shapes; boxes go to *_bbox.npy.")
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Random seed of thresholds, noise and shapes.")
    ] = 0,
    fps: Annotated[
        float | None,
        typer.Option("--fps", help="Frame rate of the input. \\[default: of the video, or images.txt]"),
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", help="Resize the video to this width. \\[default: at most 304]")
    ] = None,
    upsample: Annotated[
        int | None,
        typer.Option(
            "--upsample",
            help="Frame interpolation factor, by optical flow. \\[default: up to 160 fps]",
            min=1,
            max=1000,
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="Sensor size of --shapes. \\[default: 128x96]")
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--duration", metavar="TIME", help="Duration of --shapes. \\[default: 400ms]"),
    ] = None,
    label_every: Annotated[
        str | None,
        typer.Option("--label-every", metavar="TIME", help="Label period of --shapes. \\[default: 10ms]"),
    ] = None,
    format: FormatOption = None,
    overwrite: OverwriteOption = False,
    *,
    sensor: SensorOptions,
) -> None:
    """Simulate an event camera that sees a video, a folder of pictures, or moving shapes."""
    from multiway_event_detection.simulate import SHAPES_DURATION, simulate_frames, simulate_shapes

    of_shapes = {"--size": size, "--duration": duration, "--label-every": label_every}
    of_frames = {"--fps": fps, "--width": width, "--upsample": upsample}
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
                duration=duration or SHAPES_DURATION,
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
    APP.note(*lines)
    write_stdout(f"{output}\n")
