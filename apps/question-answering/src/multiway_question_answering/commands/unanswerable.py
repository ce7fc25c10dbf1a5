"""The ``unanswerable`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    counting,
    pick_device,
    pick_dtype,
    write_json,
    write_stdout,
)

from multiway_question_answering.app import APP


def unanswerable(
    inputs: Annotated[
        list[str], typer.Argument(metavar="SQUAD...", help="Files and folders in SQuAD's JSON, 1.1 or 2.0.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="SQuAD 2.0's JSON.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="FOLDER",
            help="A generator that train wrote.",
            show_default="rules for English",
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Add to each answerable question a twin that its context does not answer, for training on both.

    A generator comes from train --preset pair2seq. Without one, rules edit English questions: they swap a name or a
    number for another of the context, take an antonym, or negate. Twins that say what a question says already are
    dropped and counted.
    """
    from multiway_text.data.squad import read_squad, write_squad
    from multiway_text.unans_qa.augmentation import TwinWriter, with_twins
    from multiway_text.unans_qa.pipeline import UnansQaPipeline
    from multiway_text.unans_qa.rules import RulePipeline

    questions = read_squad(inputs)
    writer: TwinWriter = RulePipeline()
    if model is not None:
        writer = UnansQaPipeline.from_pretrained(model, device=pick_device(device), dtype=pick_dtype(dtype))
    else:
        APP.note("twins are written by rules for English; --model takes a trained generator")
    with counting("twins") as on_progress:
        found = with_twins(questions, writer, on_progress)
    write_squad(output, found.questions)
    if json:
        write_json(found.to_json())
    else:
        write_stdout(
            f"{found.added:,} twins of {found.answerable:,} answerable questions, beside {found.unanswerable:,} "
            f"unanswerable ones; dropped {found.copies:,} copies; {found.unwritten:,} without a twin\n"
        )
