"""The ``evaluate`` command."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from multiway_core.app import ModelOptions, ReportOptions, load_pipeline, ticking
from multiway_core.errors import InputError

from multiway_question_answering.app import APP


def evaluate(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]", help="Questions in SQuAD's JSON, 1.1 or 2.0. None: the app's own few."
        ),
    ] = None,
    dev: Annotated[
        list[str] | None,
        typer.Option(
            "--dev",
            metavar="FILE",
            help="Other questions: the threshold of no answer that is best for their F1 is taken.",
        ),
    ] = None,
    among_all: Annotated[
        bool,
        typer.Option("--among-all", help="Search for passages in all contexts of the files, as answer does."),
    ] = False,
    *,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Measure exact match and F1 as SQuAD's script does, also of questions with and without an answer.

    Files that are named as xquad.de.json are told apart by language. Where some questions have no answer, the model may
    say so: from a probability of a half on there is an answer, or by the threshold of --dev; "best" is that of the best
    threshold for the very questions, which no user has. The baseline is the sentence that shares most words with the
    question. Without files the questions are few, and of our own.
    """
    from multiway_question_answering.evaluation import evaluate_questions, own_questions, read_questions

    if among_all and (dev or not files):
        raise InputError("--among-all takes files, and no --dev")
    asked = read_questions(files or [], report.limit, report.seed)
    others = [one for _, one in read_questions(dev or [], None, report.seed)]
    pipeline: Any = load_pipeline(APP, model)
    APP.note(*pipeline.notes)
    with ticking("asking", len(asked) or None) as on_sample:
        if not files:
            found = own_questions(pipeline, seed=report.seed, on_sample=on_sample)
        else:
            found = evaluate_questions(
                pipeline,
                asked,
                dev=others,
                among_all=among_all,
                name=f"answers of {pipeline.name} to {len(asked)} questions",
                seed=report.seed,
                on_sample=on_sample,
            )
    report.publish(found)
