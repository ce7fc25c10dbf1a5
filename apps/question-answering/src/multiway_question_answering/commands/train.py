"""The ``train`` command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from multiway_core.app import TrainingOptions

from multiway_question_answering.app import APP


@dataclass(frozen=True)
class Changes:
    """Fields of the recipe."""

    held_out: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out", metavar="FILE", help="Score and calibrate on this. \\[default: every tenth context]"
        ),
    ] = None
    max_length: Annotated[int | None, typer.Option("--max-length", min=8, help="Tokens of a window.")] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=2, help="Windows of a batch.")] = None
    epochs: Annotated[float | None, typer.Option("--epochs", min=0.001, help="Passes over the windows.")] = (
        None
    )
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", min=0.0)] = None
    turns: Annotated[
        int | None, typer.Option("--turns", min=0, help="Of refinement, with the preset ref-qa.")
    ] = None
    style: Annotated[
        Literal["reordered", "natural", "noisy", "identity"] | None,
        typer.Option("--style", help="Of the questions that refinement writes."),
    ] = None
    parser: Annotated[
        str | None, typer.Option("--parser", help="Of refinement: a language or a spaCy pipeline.")
    ] = None
    keep: Annotated[
        Literal["last", "best"] | None,
        typer.Option("--keep", help="The last turn of refinement, or the best on --held-out."),
    ] = None


def train(
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="squad; ref-qa: on harvested pairs, with refinement; "
            "pair2seq, seq2seq and the same with -small: a generator of unanswerable twins; smoke and "
            "unanswerable-smoke need no data.",
        ),
    ] = "squad",
    *,
    changes: Changes,
    options: TrainingOptions,
) -> None:
    """Teach an encoder (--init-from) to extract answers; DIR/model is what --model takes.

    --data are files in SQuAD's JSON, 1.1 or 2.0, or such rows in JSONL or Parquet. Questions without answers teach it
    to say that there is none, and so do the windows of long contexts that do not hold the answer. Probabilities are
    calibrated on the held-out part.
    The preset ref-qa takes what harvest wrote to JSONL: after a first training the reader refines part by part what it
    is trained on next.
    A generator learns from SQuAD 2.0 files, in which a twin has its question's answer as the plausible answer, and is
    the --model of unanswerable.
    """
    options.train(APP, preset, vars(changes))
