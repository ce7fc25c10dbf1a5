"""The commands about text: generate, chat, score."""

from __future__ import annotations

from typing import Annotated

import typer
from multiway_core.app import JsonOption, ModelOptions, write_json, write_stdout

from multiway_lm.sampling import Sampling


def generate(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT|-|FILE", help="Text, - for standard input, or a text file.")
    ],
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--continue",
            help="Answer it, or continue it as text. \\[default: answer, where the model has a chat format]",
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="System prompt.")] = None,
    answers: Annotated[int, typer.Option("--answers", min=1, max=64, help="Number of answers.")] = 1,
    json: JsonOption = False,
    *,
    sampling: Sampling,
    model: ModelOptions,
) -> None:
    """Answer a prompt or continue it, word by word; --json gives the tokens with their log-probabilities."""
    from multiway_lm.generate import generate_text, read_prompt

    text = read_prompt(prompt)
    generate_text(
        text,
        model,
        sampling,
        chat=chat,
        system=system,
        answers=answers,
        json=json,
    )


def chat(
    system: Annotated[str | None, typer.Option("--system", help="System prompt.")] = None,
    *,
    sampling: Sampling,
    model: ModelOptions,
) -> None:
    """Talk in the terminal: /reset forgets, /system TEXT instructs, /quit ends, Ctrl-C stops an answer."""
    from multiway_lm.chat import talk

    talk(model, sampling, system=system)


def score(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Text, .jsonl and .parquet files, folders, globs; - is stdin."
        ),
    ],
    field: Annotated[
        str, typer.Option("--field", help="Where the text is in .jsonl and .parquet rows.")
    ] = "text",
    window: Annotated[
        int | None,
        typer.Option("--window", help="Tokens seen at once. \\[default: the context, at most 2048]"),
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", help="Tokens a window moves on. \\[default: half of it]")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many documents.")] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="With --json: every token's log-probability as well.")
    ] = False,
    json: JsonOption = False,
    *,
    model: ModelOptions,
) -> None:
    """Score texts with a model: perplexity and bits per byte, for each document and together.

    Exit code 1: some documents could not be scored (named on standard error).
    """
    from multiway_lm.score import score_files

    lines, failed = score_files(
        paths,
        model,
        field=field,
        window=window,
        stride=stride,
        limit=limit,
        tokens=tokens,
        json=json,
    )
    write_json(lines) if json else write_stdout(lines)
    if failed:
        raise typer.Exit(1)
