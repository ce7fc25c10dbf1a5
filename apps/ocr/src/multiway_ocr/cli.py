"""The command line ``multiway-ocr``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    CommandLine,
    JobsOption,
    JsonOption,
    ModelOptions,
    OverwriteOption,
    ReportOptions,
    TrainingOptions,
    stdin_file,
    ticking,
    write_json,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_ocr.app import APP
from multiway_ocr.reader import Engine, Format, ReadOptions, Task

cli = CommandLine(APP)

EngineOption = Annotated[
    Engine | None,
    typer.Option(
        "--engine",
        help="auto: fast, and ppocr where that is unsure; fast: line by line, in one pass each; ppocr: PP-OCRv6, for "
        "photographs; full: the decoder writes the page, or each line with the bundled model. "
        "\\[default: auto where the model has a line reader]",
    ),
]


@cli.command()
def read(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH|-...", help="Pictures, PDF and TIFF files, folders, globs; - is stdin."),
    ],
    task: Annotated[
        Task | None, typer.Option("--task", help="\\[default: markdown for --format markdown, else ocr]")
    ] = None,
    engine: EngineOption = None,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="\\[default: text, or markdown for --task markdown]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="One file an input; what is there is kept."),
    ] = None,
    overwrite: OverwriteOption = False,
    pages: Annotated[
        str | None, typer.Option("--pages", help="Pages of each input, from 1: 1-3 or 2,5-7.")
    ] = None,
    force_ocr: Annotated[
        bool, typer.Option("--force-ocr", help="Read PDF pages as pictures though they hold text.")
    ] = False,
    password: Annotated[str | None, typer.Option("--password", help="Of encrypted PDF files.")] = None,
    jobs: JobsOption = 1,
    json: Annotated[
        bool, typer.Option("--json", help="--format json; with --output: a summary as JSON.")
    ] = False,
    *,
    model: ModelOptions,
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
        **vars(model),
        task=task or ("markdown" if format == "markdown" else "ocr"),
        engine=engine,
        pages=pages,
        force_ocr=force_ocr,
        password=password,
    )
    code = read_all(
        paths, options, format=format, output=output, jobs=jobs, overwrite=overwrite, summary=json
    )
    raise typer.Exit(code)


@cli.command()
def ask(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE|-", help="A picture or a PDF (its first page, or --page).", callback=stdin_file
        ),
    ],
    question: Annotated[str, typer.Argument(help="What to ask about the page.")],
    page: Annotated[int, typer.Option("--page", min=1, help="Page of a PDF or TIFF file.")] = 1,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = 256,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Answer a question about a page (needs KOSMOS-2.5-CHAT weights: see --model)."""
    from multiway_ocr.ask import answer

    options = ReadOptions(**vars(model), pages=str(page))
    text = answer(image, question, options, max_new_tokens=max_new_tokens)
    if json:
        found = {
            "source": str(image),
            "page": page,
            "model": options.model,
            "question": question,
            "answer": text,
        }
        write_json(found)
    else:
        write_stdout(text + "\n")


@cli.command()
def evaluate(
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            metavar="DIR|NAME",
            help="A folder (FUNSD, SROIE, CORD, OmniDocBench, or pictures with .txt beside them), or synthetic.",
        ),
    ] = "synthetic",
    task: Annotated[Task, typer.Option("--task", help="What is read and scored.")] = "ocr",
    engine: EngineOption = None,
    *,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Measure a model on a data set: error rates, word F1, box overlap, each with its interval."""
    from multiway_ocr.evaluation import evaluate_dataset

    options = ReadOptions(**vars(model), task=task, engine=engine)
    with ticking("reading") as on_sample:
        found = evaluate_dataset(dataset, options, limit=report.limit, seed=report.seed, on_sample=on_sample)
    report.publish(found)


@dataclass(frozen=True)
class RecipeChanges:
    """Fields of the recipe; what is not given is the preset's."""

    epochs: Annotated[
        float | None, typer.Option("--epochs", min=0.001, help="chat: epochs over the data.")
    ] = None
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=0.0, help="chat: peak learning rate.")
    ] = None
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="chat: questions per batch.")
    ] = None
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="ocr-small: fuse the network with torch.compile."),
    ] = None


@cli.command()
def train(
    preset: Annotated[
        str, typer.Option("--preset", help="ocr-small, smoke (two minutes), or chat (answers to questions).")
    ] = "ocr-small",
    *,
    changes: RecipeChanges,
    options: TrainingOptions,
) -> None:
    """Train the bundled reader on lines that are rendered for it, or fine-tune a model to answer questions.

    chat: --data is a JSONL file of rows {"image": PATH, "question": TEXT, "answer": TEXT}, and --init-from is a model
    with a decoder. ocr-small and smoke: --init-from is a reader to continue with.
    """
    options.train(APP, preset, vars(changes))


cli.add_demo()
cli.add_serve()
