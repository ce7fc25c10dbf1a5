"""The ``evaluate`` command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from multiway_core.app import ModelOptions, ReportOptions, ticking
from multiway_core.errors import InputError


@dataclass(frozen=True)
class ColumnOptions:
    """Names of the columns of rows."""

    text_column: Annotated[str, typer.Option("--text-column", help="Name of the text's column.")] = "text"
    pair_column: Annotated[str, typer.Option("--pair-column", help="Name of the second text's.")] = "pair"
    label_column: Annotated[str, typer.Option("--label-column", help="Name of the label's or score's.")] = (
        "label"
    )
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="A,B", help="The names of a table whose first line is a row."),
    ] = None


def evaluate(
    task: Annotated[
        Literal["retrieval", "classification", "tagging", "similarity", "extraction", "bundled"],
        typer.Argument(help="What is measured."),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="JSONL, CSV, TSV, Parquet; retrieval, extraction: SQuAD's JSON; tagging: CoNLL.",
        ),
    ] = None,
    *,
    columns: ColumnOptions,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Measure a model, beside a simple baseline in the same run.

    retrieval: a question finds its text among all (accuracy@1, reciprocal rank; BM25). classification: accuracy (the
    most frequent label). tagging: accuracy of words (the most frequent tag), and F1 of what BIO tags mark. similarity:
    Spearman's rank correlation with human scores (common words). extraction: SQuAD's exact match and F1 of answers
    (the whole context). bundled: sixteen questions of the app written to share few words with their answers, no
    measure of retrieval in general.
    """
    from multiway_encoder.evaluation import Columns, bundled_questions, evaluate_files
    from multiway_encoder.inputs import pipeline_of

    names = None if columns.columns is None else tuple(columns.columns.split(","))
    chosen = Columns(columns.text_column, columns.pair_column, columns.label_column, names)
    with ticking("measuring") as on_sample:
        if task == "bundled":
            found = bundled_questions(pipeline_of(model), report.limit, report.seed, on_sample)
        elif not files:
            raise InputError(f"{task} needs a file: see multiway-encoder evaluate --help")
        else:
            found = evaluate_files(
                task, files, model, chosen, limit=report.limit, seed=report.seed, on_sample=on_sample
            )
    report.publish(found)
