"""The command line ``multiway-ocr``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import DeviceOption, DtypeOption, ModelOption, run
from multiway_core.errors import InputError

from multiway_ocr.reader import BUNDLED_MODEL, DEFAULT_ENGINE, Engine, Format, ReadOptions, Task

cli = typer.Typer(
    name="multiway-ocr",
    help="Read pages: text, boxes and markdown from pictures and PDF files, on this machine and offline.",
    no_args_is_help=True,
    add_completion=False,
)

EngineOption = Annotated[
    Engine, typer.Option("--engine", help="fast: lines by the CTC head; full: the autoregressive decoder.")
]


@cli.command()
def read(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Pictures, PDF and TIFF files, folders, globs.")
    ],
    task: Annotated[
        Task | None, typer.Option("--task", help="[default: markdown for --format markdown, else ocr]")
    ] = None,
    engine: EngineOption = DEFAULT_ENGINE,
    model: ModelOption = BUNDLED_MODEL,
    format: Annotated[
        Format | None, typer.Option("--format", "-f", help="[default: text, or markdown for --task markdown]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="One file an input; what is there is kept."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Redo outputs that are there.")] = False,
    pages: Annotated[
        str | None, typer.Option("--pages", help="Pages of each input, from 1: 1-3 or 2,5-7.")
    ] = None,
    force_ocr: Annotated[
        bool, typer.Option("--force-ocr", help="Read PDF pages as pictures though they hold text.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes, one thread each.")] = 1,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="--format json; with --output: a summary as JSON.")
    ] = False,
) -> None:
    """Print the text of pages, or write one file an input with --output.

    Exit code 0: all read. 1: some inputs failed (named on standard error). 2: bad usage, or none read.
    """
    from multiway_ocr.read import read as read_all

    if json and output is None:
        if format not in (None, "json"):
            raise InputError(f"--json and --format {format}: give one of them, or --output DIR as well")
        format = "json"
    format = format or ("markdown" if task == "markdown" else "text")
    options = ReadOptions(
        task=task or ("markdown" if format == "markdown" else "ocr"),
        engine=engine,
        model=model,
        pages=pages,
        device=device,
        dtype=dtype,
        force_ocr=force_ocr,
    )
    code = read_all(
        paths, options, format=format, output=output, jobs=jobs, overwrite=overwrite, summary=json
    )
    raise typer.Exit(code)


def main() -> None:
    """Entry point of the command ``multiway-ocr``."""
    run(cli, name="multiway-ocr")


if __name__ == "__main__":
    main()
