"""The command line. Numpy, torch and OpenCV are not imported here: ``--help`` answers at once."""

from __future__ import annotations

import json as json_module
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    DeviceOption,
    JsonOption,
    ModelOption,
    SeedOption,
    note,
    progress_bar,
    run,
    write_stdout,
)
from multiway_core.errors import InputError, MultiwayError

from multiway_event_detection.options import (
    BUNDLED_MODEL,
    PROGRAM,
    EngineName,
    EventFormat,
    PolicyName,
    PresetName,
    Taking,
    Unit,
    ViewName,
)

cli = typer.Typer(
    name=PROGRAM,
    help="Event cameras: detect objects in recordings; look into, convert, render and simulate them.",
    no_args_is_help=True,
    add_completion=False,
)

RecordingArgument = Annotated[Path, typer.Argument(metavar="RECORDING", help="DAT, RAW, HDF5, AEDAT4, ...")]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="WxH", help="The sensor's pixels, where the file does not tell; or infer."
    ),
]
UnitOption = Annotated[Unit | None, typer.Option("--time-unit", help="Of npz, HDF5 and text files.")]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", metavar="txyp", help="Order of a text file's columns.")
]
RepairOption = Annotated[
    bool, typer.Option("--repair", help="Sort late events; leave out those off the sensor and a cut end.")
]
FormatOption = Annotated[
    EventFormat | None,
    typer.Option("--format", "-f", help="[default: by the ending: dat, raw (evt3), npz, h5, csv]"),
]


@contextmanager
def _counting(what: str) -> Iterator[Callable[[int], None]]:
    """A progress bar of events; yields the function that moves it."""
    with progress_bar() as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done: progress.update(bar, completed=done)


def _tell(lines: list[str]) -> None:
    for line in lines:
        note(f"{PROGRAM}: {line}")


EngineOption = Annotated[
    EngineName,
    typer.Option("--engine", help="event by event, slices, or windows from their beginning: the same boxes."),
]
PolicyOption = Annotated[PolicyName, typer.Option("--policy", help="What the network remembers.")]
ReadEveryOption = Annotated[
    str, typer.Option("--read-every", metavar="TIME", help="Between read-outs: 1ms, 500us, 0.1s.")
]


@cli.command()
def detect(
    recording: Annotated[
        Path, typer.Argument(metavar="RECORDING", help="Events; or a video or a folder of pictures.")
    ],
    model: ModelOption = BUNDLED_MODEL,
    engine: EngineOption = "event",
    policy: PolicyOption = "continuous",
    read_every: ReadEveryOption = "10ms",
    score: Annotated[float, typer.Option("--score", help="Boxes below are left out.")] = 0.3,
    start: Annotated[
        str, typer.Option("--start", metavar="TIME", help="From here on, after the first event.")
    ] = "0",
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="Up to here, after the first event.")
    ] = None,
    json: JsonOption = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="A line of JSON a read-out, as it comes.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where JSON goes instead.")
    ] = None,
    npy: Annotated[
        Path | None, typer.Option("--npy", metavar="FILE", help="Write the boxes as Prophesee's label files.")
    ] = None,
    mp4: Annotated[
        Path | None, typer.Option("--mp4", metavar="FILE", help="Write a video, a picture a read-out.")
    ] = None,
    view: Annotated[ViewName, typer.Option("--view", help="Of the video, as in render.")] = "frame",
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="TIME", help="Of events in a picture. [default: 20ms or more]"),
    ] = None,
    fps: Annotated[float, typer.Option("--fps", help="Pictures a second of the video.")] = 30.0,
    scale: Annotated[
        int | None, typer.Option("--scale", min=1, max=16, help="Of the video. [default: 640 pixels wide]")
    ] = None,
    size: SizeOption = None,
    time_unit: UnitOption = None,
    columns: ColumnsOption = None,
    repair: RepairOption = False,
    width: Annotated[
        int | None, typer.Option("--width", min=1, help="Scale a video. [default: at most 320]")
    ] = None,
    upsample: Annotated[
        int | None, typer.Option("--upsample", help="Frames for each of a video's own. [default: 8]")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of the simulated sensor.")] = None,
) -> None:
    """Find objects in a recording, at any time of it: boxes with class, score and age."""
    from multiway_event_detection.detect import Detecting, Detection, Drawing
    from multiway_event_detection.taking import Simulated
    from multiway_event_detection.writing import write_text_pieces

    if json + jsonl + (npy is not None) + (mp4 is not None) > 1:
        raise InputError("--json, --jsonl, --npy and --mp4: give one of them")
    if output is not None and not (json or jsonl):
        raise InputError("--output is for --json and --jsonl; --npy and --mp4 name their file themselves")
    drawing = Drawing(view, window, fps, scale)
    if drawing != Drawing() and mp4 is None:
        raise InputError("--view, --window, --fps and --scale are for --mp4")
    taking, simulated = Taking(size, time_unit, columns, repair), Simulated(width, upsample, seed)
    detecting = Detecting(model, engine, policy, read_every, score, start, end)
    for written in (output, npy, mp4):
        if written is not None and os.path.realpath(written) == os.path.realpath(recording):
            raise InputError(f"{written} would replace the recording itself; give another name")
    with _counting("detecting") as on_progress:
        detection = Detection(recording, taking, simulated, detecting, on_progress)
        if json or jsonl:
            pieces = detection.json() if json else detection.json_lines()
            write_text_pieces(pieces, output, is_live=jsonl)
            text = "" if output is None else f"{output}\n"
        else:
            text = detection.report(npy, mp4, drawing)
    _tell(detection.lines)
    write_stdout(text)


@cli.command()
def evaluate(
    recording: Annotated[
        str, typer.Argument(metavar="RECORDING|FOLDER|shapes", help="shapes: simulated ones, no data needed.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="PATH", help="Prophesee .npy, COCO .json, N-Caltech101 .bin; a folder's."
        ),
    ] = None,
    preset: Annotated[
        PresetName | None,
        typer.Option(
            "--preset", help="What counts: all (coco), or what published numbers do. [default: coco]"
        ),
    ] = None,
    model: ModelOption = BUNDLED_MODEL,
    engine: EngineOption = "event",
    policy: PolicyOption = "continuous",
    read_every: ReadEveryOption = "10ms",
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="At most so many recordings. [default: all; 20 shapes]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write report.json, report.md and report.png."),
    ] = None,
    size: SizeOption = None,
    time_unit: UnitOption = None,
    columns: ColumnsOption = None,
    repair: RepairOption = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Measure a model: average precision, operations and time an event, age of the boxes."""
    from multiway_event_detection.detect import Detecting
    from multiway_event_detection.evaluation import LEAST_SCORE, evaluate_recordings
    from multiway_event_detection.shapes_evaluation import SHAPES, evaluate_shapes

    options = Detecting(model, engine, policy, read_every, LEAST_SCORE).options()
    taking = Taking(size, time_unit, columns, repair)
    with progress_bar() as progress:
        bar = progress.add_task("evaluating", total=None)

        def on_recording(name: str) -> None:
            progress.advance(bar)

        if recording == SHAPES:
            if labels is not None or preset is not None or taking != Taking():
                raise InputError(
                    f"--labels, --preset and --size ... are for recordings; {SHAPES} bring their labels"
                )
            report = evaluate_shapes(
                model, options, recordings=limit or 20, seed=seed, on_recording=on_recording
            )
        else:
            report = evaluate_recordings(
                Path(recording),
                labels,
                taking,
                model=model,
                options=options,
                preset=preset or "coco",
                limit=limit,
                seed=seed,
                on_recording=on_recording,
            )
    if output is not None:
        report.save(output)
    if json:
        write_stdout(json_module.dumps(report.to_json(), ensure_ascii=False, indent=2) + "\n")
    else:
        write_stdout(report.to_markdown())


@cli.command()
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
            with _counting(path.name) as on_progress:
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


@cli.command()
def convert(
    recording: RecordingArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The recording to write.")],
    format: FormatOption = None,
    size: SizeOption = None,
    time_unit: UnitOption = None,
    columns: ColumnsOption = None,
    repair: RepairOption = False,
) -> None:
    """Write a recording in another format, in bounded memory, whole or not at all."""
    from multiway_event_detection.convert import convert_recording

    taking = Taking(size, time_unit, columns, repair)
    with _counting("converting") as on_progress:
        lines = list(convert_recording(recording, output, taking, format=format, on_progress=on_progress))
    _tell(lines)
    write_stdout(f"{output}\n")


@cli.command()
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
) -> None:
    """Draw a recording as a video, as one picture (the window at --start), or as a folder of pictures."""
    from multiway_event_detection.render import RenderOptions, render_recording

    taking = Taking(size, time_unit, columns, repair)
    options = RenderOptions(
        view=view, fps=fps, window=window, start=start, end=end, scale=scale, decay=decay, bin=bin
    )
    with _counting("drawing") as on_progress:
        lines = list(render_recording(recording, output, taking, options, on_progress))
    _tell(lines)
    write_stdout(f"{output}\n")


@cli.command()
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
    with _counting("simulating") as on_progress:
        if source is None:
            found = simulate_shapes(
                output,
                sensor,
                size=size,
                duration=duration or "100ms",
                label_every=label_every or "10ms",
                format=format,
                seed=seed,
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
                on_progress=on_progress,
            )
        lines = list(found)
    _tell(lines)
    write_stdout(f"{output}\n")


@cli.command()
def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run; a second call goes on.")
    ] = Path("training"),
    preset: Annotated[
        str, typer.Option("--preset", help="shapes (the bundled model's), or smoke (a minute).")
    ] = "shapes",
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.1, help="Stop by then; the model is written as it is.")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option("--start-from", metavar="MODEL", help="Begin with the weights of this model."),
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Train a detector on simulated recordings, and write a model folder for --model."""
    from multiway_event_detection.training import train_detector

    folder = train_detector(
        output, preset=preset, minutes=minutes, start_from=start_from, device=device, seed=seed
    )
    write_stdout(f"{folder}\n")


@cli.command()
def demo(
    model: ModelOption = BUNDLED_MODEL,
    host: Annotated[str, typer.Option("--host", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="[default: first free from 7860]")] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Open a public tunnel.")] = False,
) -> None:
    """Open the demo page: recordings, videos or the webcam, with boxes at any microsecond."""
    from multiway_core.app import launch

    from multiway_event_detection.demo import build_demo

    launch(build_demo(model), host, port, share=share, max_file_size="200mb")


def main() -> None:
    """Entry point of the command ``multiway-event-detection``."""
    # OpenCV and the FFmpeg inside it write lines of their own about bad videos; ours says it once.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    run(cli, name=PROGRAM)


if __name__ == "__main__":
    main()
