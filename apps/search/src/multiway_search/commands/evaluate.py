"""The ``evaluate`` command."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from multiway_core.app import ModelOptions, ReportOptions, load_pipeline, ticking
from multiway_core.errors import InputError

from multiway_search.app import APP

_FORMS = {"beir": (1, "a folder"), "tatoeba": (2, "two files"), "notes": (0, "nothing more")}


def evaluate(
    task: Annotated[Literal["beir", "tatoeba", "notes"], typer.Argument(help="What is measured.")],
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH...]", help="beir: a folder; tatoeba: two files.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="beir: which file of qrels.")] = "test",
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            "-i",
            metavar="DIR",
            help="beir: keep the index here, and go on with one that is there.",
            show_default="a temporary one",
        ),
    ] = None,
    *,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Measure how well a model and an index find what is known to be right.

    beir: passages, queries and judgements (corpus.jsonl, queries.jsonl, qrels/test.tsv): nDCG@10, recall, accuracy@1
    and MRR of each --mode of a query side by side. tatoeba: two files where line n translates line n:
    accuracy@1 in both directions (-m bundled:multilingual-small knows 12 languages). notes: questions about the app's
    own notes, which favour vectors over words.
    """
    from multiway_search import beir, evaluation

    given = list(paths or ())
    count, form = _FORMS[task]
    if len(given) != count:
        raise InputError(f"evaluate {task} takes {form}, not {len(given)} paths")
    data = beir.DataSet.read(given[0], split) if task == "beir" else None
    pipeline: Any = load_pipeline(APP, model)
    options: dict[str, Any] = {"limit": report.limit, "seed": report.seed}
    with ticking("measuring") as on_sample, tempfile.TemporaryDirectory(prefix="multiway-") as folder:
        if data is not None:
            name = f"search by {pipeline.name} in {given[0].name} ({len(data.documents):,} documents)"
            with pipeline.open(index or Path(folder, "index"), create=True) as opened:
                found = beir.measure(pipeline, opened, data, name=name, on_sample=on_sample, **options)
        elif task == "tatoeba":
            found = evaluation.translations_evaluation(pipeline, *given, on_sample=on_sample, **options)
        else:
            found = evaluation.notes_evaluation(pipeline)
    report.publish(found, beir.side_by_side(found) if data is not None else None)
