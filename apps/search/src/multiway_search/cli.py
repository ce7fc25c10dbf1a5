"""The command line ``multiway-search``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from multiway_core.app import (
    BatchLog,
    CommandLine,
    JsonOption,
    ModelOptions,
    counting,
    load_pipeline,
    write_json,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_search import photos, places
from multiway_search.app import APP
from multiway_search.commands.evaluate import evaluate
from multiway_search.commands.pairs import pairs
from multiway_search.commands.train import train
from multiway_search.options import Asked, IndexOption, ModeOption, Only, PathOption, TopOption, query_text

cli = CommandLine(APP)


@cli.command()
def index(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]",
            help="Folders and files: text, Markdown, HTML, PDF, JSONL, CSV, TSV, Parquet; pictures. None: as before.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="The index.", show_default="a folder in the user's cache"
        ),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            "--field", help="Where the text is in rows.", show_default="text, or as the index was made"
        ),
    ] = None,
    chunk_tokens: Annotated[
        int | None,
        typer.Option(
            "--chunk-tokens",
            min=16,
            help="Most tokens of a passage.",
            show_default="200, or as the index was made",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap", min=0, help="Tokens that a passage repeats of the one before.", show_default="0"
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Look at pictures beside texts.")
    ] = True,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Make an index of files and folders, or bring it up to date: only what changed is read."""
    from multiway_text.search.store import DATABASE

    folder = output or (places.default_folder(inputs) if inputs else places.chosen(None))
    pipeline: Any = load_pipeline(APP, _of_index(folder, model) if not inputs else model)
    note = photos.attach(pipeline, device=model.device) if pictures else None
    is_new = not (folder / DATABASE).is_file()
    with pipeline.open(
        folder, tokens=chunk_tokens, overlap=overlap, field=field, create=bool(inputs)
    ) as opened:
        places.remember(folder)
        with counting("files") as on_progress:
            report = pipeline.update(opened, inputs or [], on_progress=on_progress)
    log = BatchLog(APP)
    for name, reason in (*report.failed, *report.problems):
        log.fail(name, reason)
    if json:
        write_json({"index": str(folder), **report.to_json()})
    else:
        APP.note(*([note] if note else []))
        APP.note(f"{report.summary()} ({report.seconds:.1f} s)")
        APP.note(f'{"made" if is_new else "updated"} {folder}; ask it: multiway-search query "..."')
    raise typer.Exit(log.exit_code(report.documents - len(report.failed)))


@cli.command()
def query(
    words: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="Words or a question; - for standard input.")
    ],
    mode: ModeOption = "hybrid",
    top: TopOption = 10,
    path: PathOption = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet", metavar="FILE", help="Write a contact sheet of the pictures (.jpg, .png, .webp)."
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Draw pictures in the terminal, in half blocks.")
    ] = False,
    json: JsonOption = False,
    *,
    only: Only,
    asked: Asked,
) -> None:
    """Find passages and pictures that answer a question or are about some words, best first."""
    from multiway_search.listing import results_text, shown_path

    text, conditions = query_text(words), only.conditions()
    pipeline, opened = asked.open()
    with opened:
        found = pipeline.query(opened, text, mode=mode, top=top, path=path, **conditions)
        roots = opened.roots()
    APP.note(*found.notes)
    write_json(found.to_json()) if json else write_stdout(results_text(found, roots, show=show))
    if sheet is not None:
        numbered = [
            (n, hit.passage.path) for n, hit in enumerate(found.hits, 1) if hit.passage.kind == "picture"
        ]
        names = [f"{number}  {shown_path(path, roots)}" for number, path in numbered]
        count = photos.write_sheet([path for _, path in numbered], names, sheet)
        APP.note(f"{count} pictures on {sheet}")


@cli.command()
def similar(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Any file that could be indexed.")],
    top: TopOption = 10,
    json: JsonOption = False,
    *,
    asked: Asked,
) -> None:
    """Find the documents and pictures that are nearest to a file or picture."""
    from multiway_search.listing import shown_path

    pipeline, opened = asked.open()
    with opened:
        if opened.meta().get("pictures"):
            photos.attach(pipeline, device=asked.device)
        found = pipeline.similar(opened, file, top=top)
        roots = opened.roots()
    if json:
        documents = [item.to_json() for item in found]
        write_json({"schema": "multiway.search.similar/1", "source": str(file), "documents": documents})
    else:
        write_stdout("".join(f"{item.cosine:6.3f}  {shown_path(item.path, roots)}\n" for item in found))


@cli.command()
def info(index: IndexOption = None, json: JsonOption = False) -> None:
    """Say what an index is made of."""
    from multiway_search.listing import described, described_text

    found = described(places.chosen(index))
    write_json(found) if json else write_stdout(described_text(found))


@cli.command("list")
def list_documents(index: IndexOption = None, path: PathOption = None, json: JsonOption = False) -> None:
    """List the documents of an index with their passages, and those that could not be read."""
    from multiway_search.listing import documents, documents_text

    found = documents(places.chosen(index), path)
    write_json({"schema": "multiway.search.documents/1", "documents": found}) if json else write_stdout(
        documents_text(found)
    )


@cli.command()
def delete(
    path: Annotated[
        str, typer.Argument(metavar="GLOB", help="A document's path, or a pattern such as '*/drafts/*'.")
    ],
    index: IndexOption = None,
) -> None:
    """Remove documents from an index (never files). Those below an indexed folder come back with the next index run."""
    from multiway_text.search.pipeline import delete_documents
    from multiway_text.search.store import Index

    with Index(places.chosen(index)) as opened:
        count = delete_documents(opened, path)
    if not count:
        raise InputError(f"{path}: no document of the index has this path; multiway-search list shows them")
    APP.note(f"{count:,} documents removed")


for command in (pairs, train, evaluate):
    cli.command()(command)
cli.add_demo()
cli.add_serve("Serve search over HTTP; the index stays on disk (MULTIWAY_SEARCH_INDEX names its folder).")


def _of_index(folder: Path, model: ModelOptions) -> ModelOptions:
    """Without paths the index's own model, unless another is named."""
    from multiway_text.search.store import Index

    if model.model != APP.model:
        return model
    with Index(folder) as opened:
        return ModelOptions(opened.settings.model, model.device, model.dtype)
