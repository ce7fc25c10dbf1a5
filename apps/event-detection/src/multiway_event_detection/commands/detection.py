"""``detect``, ``evaluate``, ``train`` and ``demo``."""

from __future__ import annotations

import json as json_module
import os
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    DeviceOption,
    JsonOption,
    ModelOption,
    SeedOption,
    counting,
    progress_bar,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_event_detection.commands.shared import (
    ColumnsOption,
    EngineOption,
    PolicyOption,
    ReadEveryOption,
    RepairOption,
    SizeOption,
    UnitOption,
    tell,
)
from multiway_event_detection.options import BUNDLED_MODEL, PresetName, Taking, ViewName


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
        int | None, typer.Option("--width", min=1, help="Scale a video. [default: at most 304]")
    ] = None,
    upsample: Annotated[
        int | None,
        typer.Option("--upsample", help="Frames for each of a video's own. [default: 160 a second]"),
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
    with counting("detecting") as on_progress:
        detection = Detection(recording, taking, simulated, detecting, on_progress)
        if json or jsonl:
            pieces = detection.json() if json else detection.json_lines()
            write_text_pieces(pieces, output, is_live=jsonl)
            text = "" if output is None else f"{output}\n"
        else:
            text = detection.report(npy, mp4, drawing)
    tell(detection.remarks())
    write_stdout(text)


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
    init_from: Annotated[
        str | None,
        typer.Option("--init-from", metavar="MODEL", help="Begin with the weights of this model."),
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Train a detector on simulated recordings, and write a model folder for --model."""
    from multiway_event_detection.training import train_detector

    folder = train_detector(
        output, preset=preset, minutes=minutes, init_from=init_from, device=device, seed=seed
    )
    write_stdout(f"{folder}\n")


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
