"""The ``evaluate`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import (
    ModelLoader,
    ModelOptions,
    ReportOptions,
    ticking,
)

from multiway_grounding.app import APP

EvaluationTask = Literal[
    "flickr30k", "refcoco", "refcoco+", "refcocog", "describe", "caption", "vqa", "photos", "bundled",
    "retrieval", "nlvr2", "imagenet",
]  # fmt: skip


def evaluate(
    task: Annotated[EvaluationTask, typer.Argument(help="A data set with its protocol.")],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="The pictures; for photos a COCO, VOC or YOLO set, by default the app's own; for bundled scenes.",
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
    """Evaluate a model on your copy of a data set: scores with intervals, upper bounds and blind baselines."""
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
