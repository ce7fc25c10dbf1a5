"""The command line ``multiway-corpus``. Gradio and the extractors are not imported here: ``--help`` answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import (
    BatchLog,
    CommandLine,
    JsonOption,
    OverwriteOption,
    PageOptions,
    ReportOptions,
    SeedOption,
    launch,
    write_json,
    write_stdout,
)

from multiway_corpus.app import APP
from multiway_corpus.options import RecipeOptions

cli = CommandLine(APP)

InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="WARC and WET files, HTML pages, texts (JSONL, Parquet, txt), folders, globs.",
    ),
]
TextsArgument = Annotated[
    list[str], typer.Argument(metavar="TEXTS...", help="Texts (JSONL, Parquet, txt), folders, globs.")
]


@dataclass(frozen=True)
class BuildOptions:
    """Where a build goes, and who works on it."""

    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT", help="Folder of the build; a stopped build resumes."),
    ]
    format: Annotated[
        Literal["parquet", "jsonl"], typer.Option("--format", help="Of the parts; both with zstd.")
    ] = "parquet"
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes, an input each.")] = 1
    engine: Annotated[
        Literal["local", "ray", "spark", "datatrove"],
        typer.Option("--engine", help="Who starts the processes; the result is the same."),
    ] = "local"
    overwrite: OverwriteOption = False
    json: JsonOption = False


LinesOption = Annotated[
    bool, typer.Option("--dedup-lines/--keep-lines", help="Also leave out lines that stand elsewhere.")
]


@cli.command()
def build(
    inputs: InputsArgument,
    dedup: Annotated[bool, typer.Option("--dedup/--no-dedup", help="Leave out near-duplicates.")] = True,
    dedup_lines: LinesOption = False,
    *,
    options: BuildOptions,
    recipe: RecipeOptions,
) -> None:
    """Build training text of web archives: extract, identify the language, filter, leave out near-duplicates.

    OUT holds a part for each input, one row a document with where it comes from, and report.json. It is what
    `multiway-lm train --data OUT` reads. Pages that were dropped, and why, lie in OUT/dropped.
    """
    _build(inputs, recipe, options, dedup, dedup_lines)


@cli.command("filter")
def filter_(inputs: TextsArgument, *, options: BuildOptions, recipe: RecipeOptions) -> None:
    """Keep the texts that pass a recipe's stages, duplicates among them; OUT is as that of `build`.

    A row's other fields stay with it, in meta.
    """
    _build(inputs, recipe, options, False, False)


@cli.command()
def dedup(inputs: TextsArgument, dedup_lines: LinesOption = False, *, options: BuildOptions) -> None:
    """Leave near-duplicates out of texts; nothing else is filtered."""
    _build(inputs, None, options, True, dedup_lines)


@cli.command()
def inspect(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="PAGE|ARCHIVE|OUT", help="An HTML page, a WARC file, or the folder of a build."
        ),
    ],
    uri: Annotated[
        str | None,
        typer.Option("--uri", help="The page of this address or id.", show_default="the first page"),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write a page with kept and dropped text."),
    ] = None,
    json: JsonOption = False,
    *,
    recipe: RecipeOptions,
) -> None:
    """Why was this page dropped? Print what each stage makes of it: every rule's value and threshold."""
    from multiway_corpus.inspection import inspect_page

    found = inspect_page(source, uri, recipe.build())
    if html is not None:
        from multiway_core.files import write_text

        from multiway_corpus.view import page

        write_text(html, page(found))
    if json:
        write_json(found.to_json())
    else:
        write_stdout(found.to_text())


LabelledArgument = Annotated[
    list[Path],
    typer.Argument(metavar="LABELLED...", help="JSONL or Parquet with the fields text (or html) and label."),
]


@cli.command("train-classifier")
def train_classifier(
    labelled: LabelledArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Such as math.safetensors.")],
    domain: Annotated[str, typer.Option("--domain", help="The label that is looked for; others are not it.")],
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Train a classifier for --classifier: which texts are of a domain. One text in ten is held out and measured."""
    from multiway_core.files import check_output

    from multiway_corpus.evaluation import classifier_of

    check_output(output, inputs=labelled, overwrite=overwrite)
    classifier, report = classifier_of(labelled, domain, seed)
    classifier.save(output)
    if json:
        write_json(report)
    else:
        write_stdout("".join(f"{name}: {value:.4g}\n" for name, value in report.items()))
    APP.note(f"written to {output}")


@cli.command()
def evaluate(labelled: LabelledArgument, *, recipe: RecipeOptions, report: ReportOptions) -> None:
    """Measure precision and recall of each filter, and of the duplicates, on labelled texts or pages.

    The label `keep` is of what should stay; the name of a filter (language, document, lines ...) of what that filter
    should drop; any other of what should go by whichever. Rows with one value in the field `group` are duplicates.
    """
    from multiway_corpus.evaluation import evaluate_recipe

    report.publish(evaluate_recipe(labelled, recipe.build(), limit=report.limit, seed=report.seed))


@cli.command()
def stats(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a complete build.")],
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Also write a picture.")] = None,
    json: JsonOption = False,
) -> None:
    """Print what a build kept and dropped, by rule, and its languages and lengths."""
    from multiway_corpus.building import read_report
    from multiway_corpus.statistics import plot_report, report_text

    report = read_report(output)
    if plot is not None:
        plot_report(report, plot)
    if json:
        write_json(report)
    else:
        write_stdout(report_text(report))


@cli.command()
def pack(
    pages: Annotated[list[str], typer.Argument(metavar="PAGE...", help="HTML files, folders, globs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="WARC", help="Such as pages.warc.gz.")],
    base: Annotated[
        str, typer.Option("--base", help="Before the paths in the addresses.")
    ] = "http://localhost/",
    overwrite: OverwriteOption = False,
) -> None:
    """Pack HTML files as a WARC archive, as a crawler would have stored them."""
    from multiway_corpus.packing import pack_pages

    count = pack_pages(pages, output, base, overwrite=overwrite)
    APP.note(f"{count} pages written to {output}")


@cli.command("fetch-index")
def fetch_index(
    index: Annotated[
        list[Path], typer.Argument(metavar="INDEX...", help="Parquet files with the columns cc_path and uri.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="An archive for each cc_path.")
    ],
    base_url: Annotated[
        str,
        typer.Option("--base-url", help="Before each cc_path: an address, or a folder's file:// address."),
    ] = "https://data.commoncrawl.org/",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Fetch at most so many archives.")
    ] = None,
) -> None:
    """Fetch the pages that an index names, such as RedStone's: DIR is then an input of `build`.

    Of each archive only the records of these addresses are kept. Archives that are there are not fetched again.
    """
    from multiway_corpus.fetching import fetch

    log = BatchLog(APP)
    done = fetch(index, output, base_url, limit, log)
    raise SystemExit(log.exit_code(done))


@cli.command()
def index(
    source: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a complete build.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Such as index.parquet.")],
    prefix: Annotated[str, typer.Option("--prefix", help="Before the archives' names in cc_path.")] = "",
) -> None:
    """Write the index of a build's pages: cc_path and uri, for others to fetch the same pages."""
    from multiway_corpus.fetching import index_of

    APP.note(f"{index_of(source, output, prefix):,} pages written to {output}")


@cli.command()
def demo(*, page: PageOptions) -> None:
    """Open the demo page in this machine's browser."""
    blocks = APP.load("demo")()
    launch(blocks, page.host, page.port, hosts=page.allow_host or (), share=page.share)


def _build(
    inputs: list[str], recipe: RecipeOptions | None, options: BuildOptions, dedup: bool, dedup_lines: bool
) -> None:
    from multiway_text.redstone.minhash import MinHash
    from multiway_text.redstone.pipeline import Recipe
    from multiway_text.redstone.shards import Repeats

    from multiway_corpus.building import Build, find, run
    from multiway_corpus.statistics import report_text

    log = BatchLog(APP)
    made = Recipe("texts") if recipe is None else recipe.build()
    paths = find(inputs, options.output, log)
    form = "jsonl.zst" if options.format == "jsonl" else options.format
    repeats = Repeats(MinHash() if dedup else None, dedup_lines)
    report = run(
        Build(made, paths, options.output, form, repeats),
        log,
        workers=options.workers,
        engine=options.engine,
        overwrite=options.overwrite,
    )
    if options.json:
        write_json(report)
    else:
        write_stdout(report_text(report))
    APP.note(f"{report['kept']:,} of {report['pages']:,} pages kept; written to {options.output}")
    raise SystemExit(log.exit_code(report["pages"]))
