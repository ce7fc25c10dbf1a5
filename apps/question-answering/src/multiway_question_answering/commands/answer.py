"""The ``answer`` command."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from multiway_core.app import (
    BatchLog,
    JsonOption,
    ModelOptions,
    counting,
    load_pipeline,
    write_json,
    write_stdout,
)
from multiway_core.errors import InputError

from multiway_question_answering.app import APP

if TYPE_CHECKING:
    from multiway_text.question_answering.result import Answer, Answers

SHOWN = 240
"""Characters of a passage that are shown around an answer."""


@dataclass(frozen=True)
class AskingOptions:
    """How much is read and shown, and how sure an answer must be."""

    top: Annotated[int, typer.Option("--top", min=1, max=20, help="At most so many answers.")] = 3
    passages: Annotated[
        int,
        typer.Option("--passages", min=1, max=100, help="Read so many of the passages that search finds."),
    ] = 8
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold",
            min=0.0,
            max=1.0,
            help="Probability of being right from which on there is an answer.",
        ),
    ] = 0.5
    path: Annotated[
        str | None,
        typer.Option("--path", metavar="GLOB", help="Only documents whose path fits, such as '*.md'."),
    ] = None


def answer(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="A question; - for standard input.")],
    inputs: Annotated[
        list[str],
        typer.Option(
            "--in",
            "-i",
            metavar="PATH",
            help="Files, folders (text, Markdown, HTML, PDF, JSONL, CSV), or an index of multiway-search; often.",
        ),
    ],
    json: JsonOption = False,
    *,
    asking: AskingOptions,
    model: ModelOptions,
) -> None:
    """Find the words of your texts that answer a question, with file, page or line, and how sure that is.

    Search picks passages, the model reads them and compares the best spans of all; when none is likely enough, there
    is no answer. The index of files is kept in the cache, so that only what changed is read the next time.
    """
    pipeline: Any = load_pipeline(APP, model)
    text = pipeline.checked(_stdin() if question == "-" else question)
    log = BatchLog(APP)
    with counting("files") as on_progress, pipeline.open(inputs, on_progress=on_progress) as collection:
        APP.note(*pipeline.notes)
        for name, reason in collection.failed:
            log.fail(name, reason)
        found = pipeline.ask(collection, text, **vars(asking))
    APP.note(*found.notes)
    write_json(found.to_json()) if json else write_stdout(answers_text(found))
    raise typer.Exit(log.exit_code(1))


def answers_text(found: Answers) -> str:
    """An answer with its probability and place, and the passage around it; or that there is none."""
    if not found.answered:
        best = f"; the likeliest is {found.answers[0].text!r}" if found.answers else ""
        return (
            f"no answer in {found.passages:,} passages "
            f"(probability {found.probability:.2f}, below {found.threshold:g}){best}\n"
        )
    blocks = []
    for one in found.answers:
        where = ", ".join(filter(None, [one.source, one.place]))
        blocks.append(
            f"{one.probability:.2f}  {' '.join(one.text.split())}  [{where}]\n      {_around(one)}\n"
        )
    return "".join(blocks)


def _around(one: Answer) -> str:
    """The answer marked in its passage, on one line."""
    start, end = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("**", "**")
    room = max(20, SHOWN - len(one.text)) // 2
    before, after = one.passage[: one.passage_start], one.passage[one.passage_end :]
    cut = (
        "… " + before[-room:].partition(" ")[2] if len(before) > room else before,
        after[:room].rpartition(" ")[0] + " …" if len(after) > room else after,
    )
    before, after = (" ".join(text.replace("\n", " ").split(" ")) for text in cut)
    return f"{before}{start}{' '.join(one.text.split())}{end}{after}".strip()


def _stdin() -> str:
    from multiway_text.question_answering.pipeline import MAX_CHARACTERS

    data = sys.stdin.buffer.read(4 * MAX_CHARACTERS + 1)
    if len(data) > 4 * MAX_CHARACTERS:
        raise InputError(f"the question on standard input is too long: at most {MAX_CHARACTERS:,} characters")
    return data.decode("utf-8", "replace")
