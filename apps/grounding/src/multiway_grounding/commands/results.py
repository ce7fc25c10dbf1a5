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
        typer.Option("--output", "-o", metavar="FILE.jsonl", help="One line a picture; what is there stays."),
    ],
    task: Annotated[Task, typer.Option("--task", help="What to ask of every picture.")] = "caption",
    phrase: Annotated[
        list[str] | None, typer.Option("--phrase", help="locate: what to find; may be given several times.")
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin the file anew.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    *,
    model: ModelOptions,
) -> None:
    """Ask the same of many pictures, or each row's own; one bad picture costs only itself.

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
        typer.Argument(metavar="RESULTS...", help="What --json or batch wrote: JSON or JSON lines."),
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
    """Write results as files of other tools: COCO, YOLO, VOC, Label Studio, CSV."""
    from multiway_grounding.exporting import export_results

    count = export_results(results, format, output, overwrite=overwrite)
    APP.note(f"{count} results written to {output}")
