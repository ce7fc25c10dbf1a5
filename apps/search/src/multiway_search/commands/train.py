"""The ``train`` command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from multiway_core.app import TrainingOptions

from multiway_search.app import APP


@dataclass(frozen=True)
class PairChanges:
    """Fields of the recipe."""

    text: Annotated[
        str | None, typer.Option("--text-column", help="The query's side.", show_default="text")
    ] = None
    pair: Annotated[
        str | None, typer.Option("--pair-column", help="The passage's side.", show_default="pair")
    ] = None
    negative: Annotated[
        str | None, typer.Option("--negative-column", help="A passage that does not belong.")
    ] = None
    held_out: Annotated[
        list[str] | None,
        typer.Option("--held-out", metavar="FILE", help="Score on this file. \\[default: every tenth text]"),
    ] = None
    max_length: Annotated[int | None, typer.Option("--max-length", min=8, help="Tokens of a text.")] = None
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=2, help="Pairs of a batch; each sees the others as negatives."),
    ] = None
    epochs: Annotated[float | None, typer.Option("--epochs", min=0.001, help="Passes over the pairs.")] = None
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", min=0.0)] = None


def train(
    preset: Annotated[
        Literal["pairs", "smoke"], typer.Option("--preset", help="smoke needs no data.")
    ] = "pairs",
    *,
    changes: PairChanges,
    options: TrainingOptions,
) -> None:
    """Fine-tune an encoder on pairs that belong together; DIR/model is what index --model takes.

    --data is JSONL, CSV, TSV or Parquet with the columns text and pair: questions and their passages, titles and
    bodies, or what the pairs command finds. --init-from is the model to begin with (bundled:minilm-l6). Prompts that
    the model puts before queries and passages are put before the pairs too.
    """
    options.train(APP, preset, vars(changes))
