"""The commands that train: finetune."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from multiway_core.app import TrainingOptions

from multiway_encoder.app import APP


@dataclass(frozen=True)
class FineTuningChanges:
    """Fields of the fine-tuning recipe."""

    text: Annotated[
        str | None, typer.Option("--text-column", help="Name of the text's column.", show_default="text")
    ] = None
    label: Annotated[
        str | None,
        typer.Option("--label-column", help="classify: name of the label's.", show_default="label"),
    ] = None
    pair: Annotated[
        str | None,
        typer.Option("--pair-column", help="Name of the second text's.", show_default="pair, for pairs"),
    ] = None
    negative: Annotated[
        str | None, typer.Option("--negative-column", help="pairs: name of a text's that does not belong.")
    ] = None
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="A,B", help="The names of a table whose first line is a row."),
    ] = None
    held_out: Annotated[
        list[str] | None,
        typer.Option("--held-out", metavar="FILE", help="Score on this file. \\[default: every tenth text]"),
    ] = None
    max_length: Annotated[int | None, typer.Option("--max-length", min=8, help="Tokens of a text.")] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=2, help="Rows of a batch.")] = None
    epochs: Annotated[float | None, typer.Option("--epochs", min=0.001, help="Passes over the rows.")] = None
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", min=0.0)] = None


def finetune(
    preset: Annotated[
        Literal["classify", "tag", "pairs", "smoke"],
        typer.Option("--preset", help="What is learnt, see above; smoke needs no data."),
    ] = "classify",
    *,
    changes: FineTuningChanges,
    options: TrainingOptions,
) -> None:
    """Fine-tune an encoder on your texts; DIR/model is what --model takes.

    classify: --data is JSONL, CSV, TSV or Parquet with the columns text and label. tag: CoNLL files (a word a line, its
    tag last, an empty line behind a sentence), .conllu, or JSONL rows {"tokens": [...], "tags": [...]}. pairs: rows
    with text and pair that belong together, for vectors. --init-from is the model to begin with.
    """
    given = dict(vars(changes))
    given["columns"] = None if changes.columns is None else tuple(changes.columns.split(","))
    given["held_out"] = None if changes.held_out is None else tuple(changes.held_out)
    options.train(APP, preset, given)
