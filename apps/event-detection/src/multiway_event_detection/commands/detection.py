"""``detect``, ``evaluate`` and ``train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    DeviceOption,
    JsonOption,
    MinutesOption,
    ModelOptions,
    ReportOptions,
    RunFolderOption,
    SeedOption,
    counting,
    ticking,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_event_detection.app import APP
from multiway_event_detection.options import (
    EngineOptions,
    PresetName,
    RecordingOptions,
    SimulationOptions,
    VideoOptions,
)


def detect(
    recording: Annotated[
        Path, typer.Argument(metavar="RECORDING", help="Events; or a video or a folder of pictures.")
    ],
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
    *,
    model: ModelOptions,
    engine: EngineOptions,
    drawing: VideoOptions,
    recording_options: RecordingOptions,
    simulated: SimulationOptions,
) -> None:
    """Find objects in a recording, at any time of it: boxes with class, score and age."""
    from multiway_event_detection.detect import DetectArguments, Detection
    from multiway_event_detection.text_output import write_text_pieces

    if json + jsonl + (npy is not None) + (mp4 is not None) > 1:
        raise InputError("--json, --jsonl, --npy and --mp4: give one of them")
    if output is not None and not (json or jsonl):
        raise InputError("--output is for --json and --jsonl; --npy and --mp4 name their file themselves")
    if drawing != VideoOptions() and mp4 is None:
        raise InputError("--view, --window, --fps and --scale are for --mp4")
    detecting = DetectArguments(model, engine, score, start, end)
    for written in (output, npy, mp4):
        if written is not None and os.path.realpath(written) == os.path.realpath(recording):
            raise InputError(f"{written} would replace the recording itself; give another name")
    with counting("detecting") as on_progress:
        detection = Detection(recording, recording_options, simulated, detecting, on_progress)
        if json or jsonl:
            pieces = detection.json() if json else detection.json_lines()
            write_text_pieces(pieces, output, is_live=jsonl)
            text = "" if output is None else f"{output}\n"
        else:
            text = detection.report(npy, mp4, drawing)
    APP.note(*detection.remarks())
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
    *,
    model: ModelOptions,
    engine: EngineOptions,
    recording_options: RecordingOptions,
    measure: ReportOptions,
) -> None:
    """Measure a model: average precision, operations and time an event, age of the boxes."""
    from multiway_event_detection.detect import DetectArguments
    from multiway_event_detection.evaluation import MIN_SCORE, evaluate_recordings
    from multiway_event_detection.shapes_evaluation import SHAPES, evaluate_shapes

    options = DetectArguments(model, engine, MIN_SCORE).options()
    with ticking("evaluating") as on_recording:
        if recording == SHAPES:
            if labels is not None or preset is not None or recording_options != RecordingOptions():
                raise InputError(
                    f"--labels, --preset and --size ... are for recordings; {SHAPES} bring their labels"
                )
            report = evaluate_shapes(
                model, options, recordings=measure.limit or 20, seed=measure.seed, on_recording=on_recording
            )
        else:
            report = evaluate_recordings(
                Path(recording),
                labels,
                recording_options,
                model=model,
                options=options,
                preset=preset or "coco",
                limit=measure.limit,
                seed=measure.seed,
                on_recording=on_recording,
            )
    measure.publish(report)


def train(
    output: RunFolderOption = Path("training"),
    preset: Annotated[
        str, typer.Option("--preset", help="shapes (the bundled model's), or smoke (a minute).")
    ] = "shapes",
    minutes: MinutesOption = None,
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
