"""``detect``, ``evaluate``, ``train`` and ``street-dataset``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    JsonOption,
    ModelOptions,
    OverwriteOption,
    ReportOptions,
    SeedOption,
    TrainingOptions,
    counting,
    stdin_file,
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
        Path,
        typer.Argument(
            metavar="RECORDING|-",
            help="A recording, - for standard input; or a video or folder of pictures to simulate.",
            callback=stdin_file,
        ),
    ],
    score: Annotated[float, typer.Option("--score", help="Score threshold.")] = 0.3,
    start: Annotated[
        str, typer.Option("--start", metavar="TIME", help="Start time, relative to the first event.")
    ] = "0",
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="End time, relative to the first event.")
    ] = None,
    track: Annotated[
        bool, typer.Option("--track", help="Number objects over time, in every output and the video.")
    ] = False,
    json: JsonOption = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Stream one line of JSON per prediction.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the JSON to this file.")
    ] = None,
    npy: Annotated[
        Path | None, typer.Option("--npy", metavar="FILE", help="Write boxes as a Prophesee label file.")
    ] = None,
    mp4: Annotated[
        Path | None, typer.Option("--mp4", metavar="FILE", help="Write a video, one frame per prediction.")
    ] = None,
    overwrite: OverwriteOption = False,
    *,
    model: ModelOptions,
    engine: EngineOptions,
    video: VideoOptions,
    recording_options: RecordingOptions,
    simulated: SimulationOptions,
) -> None:
    """Detect objects in a recording: boxes with class, score and age, every --period."""
    from multiway_event_detection.detect import DetectArguments, Detection, DetectOutputs

    outputs = DetectOutputs(json, jsonl, output, npy, mp4, video)
    outputs.check(recording, overwrite=overwrite)
    arguments = DetectArguments(model, engine, score, start, end, track)
    with counting("detecting") as on_progress:
        detection = Detection(recording, recording_options, simulated, arguments, on_progress)
        text = detection.write(outputs)
    APP.note(*detection.remarks())
    write_stdout(text)


def evaluate(
    recording: Annotated[
        str,
        typer.Argument(
            metavar="RECORDING|FOLDER|shapes", help="shapes: the simulated test set, no data needed."
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="PATH",
            help="Prophesee .npy, COCO .json or N-Caltech101 .bin; or a folder of them.",
        ),
    ] = None,
    preset: Annotated[
        PresetName | None,
        typer.Option(
            "--preset", help="Evaluation protocol: all boxes (coco), or a published one. \\[default: coco]"
        ),
    ] = None,
    *,
    model: ModelOptions,
    engine: EngineOptions,
    recording_options: RecordingOptions,
    measure: ReportOptions,
) -> None:
    """Evaluate a model: average precision, FLOPs and CPU time per event, age of the boxes."""
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
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="shapes, street (--data: a folder of street-dataset), own (--data: a folder of your recordings with "
            "labels), shapes-dense-cnn, smoke or own-smoke (a minute).",
        ),
    ] = "shapes",
    *,
    training: TrainingOptions,
) -> None:
    """Train a detector, and write a model folder for --model. All presets but street and own simulate their recordings.

    Labels are Prophesee's x_bbox.npy, COCO's x.json or DSEC's folders; a fifth of your recordings is held out.
    """
    if training.init_from is not None:
        from multiway_core import hub

        hub.resolve(training.init_from)  # before anything is written
    training.train(APP, preset)


def street_dataset(
    videos: Annotated[Path, typer.Argument(metavar="VIDEOS", help="Folder of videos NAME.*.")],
    boxes: Annotated[Path, typer.Argument(metavar="BOXES", help="Folder of a detector's NAME.json (COCO).")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Recordings and labels.")],
    width: Annotated[
        list[int] | None,
        typer.Option("--width", min=16, help="Pixels, of all videos; may be given several times."),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Simulate recordings of people and vehicles from videos, labelled by the boxes of a detector of pictures."""
    from multiway_event_vision.street import dataset

    for path, made in dataset.build(videos, boxes, output, widths=tuple(width or ()), seed=seed):
        counts = [int((made.boxes.class_id == i).sum()) for i in range(len(dataset.CLASS_NAMES))]
        objects = ", ".join(
            f"{count} {name}" for count, name in zip(counts, dataset.CLASS_NAMES, strict=True)
        )
        events = made.events
        write_stdout(
            f"{path}: {events.width} x {events.height}, {events.duration * 1e-6:.1f} s, {len(events)} events, "
            f"{objects}\n"
        )
