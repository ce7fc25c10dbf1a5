"""The commands for many pictures and their results: batch, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import JobsOption, ModelOptions

from multiway_grounding.app import APP
from multiway_grounding.commands.options import (
    BoxOption,
    DetailedOption,
    FrameOption,
    PlainOption,
    ThresholdOption,
)
from multiway_grounding.request import Request, Task, parse_box

Format = Literal["coco", "referring", "yolo", "voc", "label-studio", "csv"]


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help='Pictures, folders, globs, or JSONL files of rows {"image": PATH, ...}.'
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE.jsonl", help="One line per picture; an interrupted run resumes."
        ),
    ],
    task: Annotated[Task, typer.Option("--task", help="The task for every picture.")] = "caption",
    phrase: Annotated[
        list[str] | None, typer.Option("--phrase", help="locate: a phrase; may be given several times.")
    ] = None,
    threshold: ThresholdOption = 0.5,
    box: BoxOption = None,
    frame: FrameOption = "pixel",
    text: Annotated[str, typer.Option("--text", help="ask: the question; prompt: the text.")] = "",
    detailed: DetailedOption = False,
    plain: PlainOption = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="A folder for the annotated pictures.")
    ] = None,
    jobs: JobsOption = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    *,
    model: ModelOptions,
) -> None:
    """Run one task on many pictures, or each row's own task; a bad picture does not stop the others.

    Exit code 0: all done. 1: some failed (named on standard error); a second call tries them again. 2: none done.
    """
    from multiway_grounding.batch import BatchOptions
    from multiway_grounding.batch import batch as run_batch

    request = Request(
        task,
        detailed=detailed,
        grounded=not plain,
        phrases=tuple(phrase or ()),
        threshold=threshold,
        box=None if box is None else parse_box(box),
        frame=frame,
        text=text,
    )
    options = BatchOptions(output, model, save, jobs, overwrite, json)
    raise typer.Exit(run_batch(inputs, request, options))


def export(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS...", help="Output of --json or batch: JSON or JSON lines."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="PATH", help="A file; a folder for yolo, voc, label-studio."),
    ],
    format: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = "coco",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that is not empty, with all in it.")
    ] = False,
) -> None:
    """Export results as COCO, YOLO, VOC, Label Studio or CSV."""
    from multiway_vision_language.export import write

    from multiway_grounding.results_file import read_results

    found = [result for path in results for result in read_results(path)]
    write(found, format, output, overwrite=overwrite)
    APP.note(f"{len(found)} results written to {output}")
