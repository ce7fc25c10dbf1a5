"""The commands about models: evaluate, train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import (
    DeviceOption,
    MinutesOption,
    ModelLoader,
    ModelOptions,
    ReportOptions,
    RunFolderOption,
    SeedOption,
    ticking,
    write_stdout,
)

from multiway_grounding.app import APP

EvaluationTask = Literal[
    "flickr30k", "refcoco", "refcoco+", "refcocog", "describe", "caption", "vqa", "photos", "bundled"
]


def evaluate(
    task: Annotated[
        EvaluationTask, typer.Argument(help="What is measured, by the protocol of its data set.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="The pictures; for photos a COCO, VOC or YOLO set; for bundled a folder of scenes.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", metavar="FILE", help="The data set's JSON file.")
    ] = None,
    entities: Annotated[
        Path | None,
        typer.Option(
            "--entities", metavar="DIR", help="flickr30k: Annotations/ and Sentences/ of the Entities."
        ),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", metavar="FILE", help="vqa: the JSON file of the questions.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="caption: of a file with several splits.")] = "test",
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out pictures that are not there.")
    ] = False,
    *,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Measure a model on your copy of a data set: scores with intervals, beside ceilings and blind baselines."""
    from multiway_grounding.evaluation import Files, evaluate_task

    files = Files(images, annotations, entities, questions, split, skip_missing)
    with ticking("measuring") as on_sample:
        found = evaluate_task(
            task,
            ModelLoader(APP, model)(),
            files,
            limit=report.limit,
            seed=report.seed,
            on_sample=on_sample,
        )
    report.publish(found)


def train(
    preset: Annotated[
        str,
        typer.Option(
            "--preset", help="fine-tune (--data, --init-from), or grounding-small or smoke (--assets)."
        ),
    ] = "fine-tune",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE.jsonl",
            help='Rows {"image": PATH, "caption": ..., "phrases": [{"span": [start, end], "boxes": [...]}]}.',
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option("--init-from", metavar="MODEL", help="fine-tune: a Kosmos-2 folder or hub id."),
    ] = None,
    assets: Annotated[
        Path | None,
        typer.Option("--assets", metavar="DIR", help="Pictures that the bundled model is trained on."),
    ] = None,
    output: RunFolderOption = Path("training"),
    epochs: Annotated[
        float, typer.Option("--epochs", min=0.001, help="fine-tune: times the data is seen.")
    ] = 3.0,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", min=0.0, help="fine-tune: the peak.")
    ] = 1e-5,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="fine-tune: captions of a step.")
    ] = 8,
    freeze_tower: Annotated[
        bool, typer.Option("--freeze-tower", help="fine-tune: leave the vision tower as it is.")
    ] = False,
    minutes: MinutesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Fine-tune a Kosmos-2 model on captions with boxes, or train the bundled one; prints the folder of the model."""
    from multiway_grounding.training import FINE_TUNE, fine_tune, train_small

    if preset != FINE_TUNE:
        folder = train_small(output, preset=preset, assets=assets, minutes=minutes, seed=seed)
        write_stdout(f"{folder}\n")
        return
    folder = fine_tune(
        output,
        data=data,
        init_from=init_from,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        freeze_tower=freeze_tower,
        minutes=minutes,
        device=device,
        seed=seed,
    )
    write_stdout(f"{folder}\n")
