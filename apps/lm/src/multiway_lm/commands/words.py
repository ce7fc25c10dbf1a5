"""The commands about text: generate, chat, score."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer
from multiway_core.app import DeviceOption, DtypeOption, JsonOption, write_stdout

from multiway_lm.commands.options import (
    MaxTokensOption,
    ModelOption,
    RepetitionOption,
    SampleSeedOption,
    StopOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
)
from multiway_lm.model import BUNDLED_MODEL, Sampling


def generate(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT|-|FILE", help="Text, - for standard input, or a text file.")
    ],
    model: ModelOption = BUNDLED_MODEL,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--continue",
            help="Answer it, or continue it as text. \\[default: answer, where the model has a chat format]",
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="What the model is told before.")] = None,
    answers: Annotated[int, typer.Option("--answers", min=1, max=64, help="Number of answers.")] = 1,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    repetition_penalty: RepetitionOption = None,
    stop: StopOption = None,
    seed: SampleSeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Answer a prompt or continue it, word by word; --json gives the tokens with their log-probabilities."""
    from multiway_lm.generating import generate_text, read_prompt

    sampling = Sampling(max_tokens, temperature, top_k, top_p, repetition_penalty, tuple(stop or ()), seed)
    text = read_prompt(prompt)
    generate_text(
        text,
        model,
        sampling,
        chat=chat,
        system=system,
        answers=answers,
        json=json,
        device=device,
        dtype=dtype,
    )


def chat(
    model: ModelOption = BUNDLED_MODEL,
    system: Annotated[str | None, typer.Option("--system", help="What the model is told before.")] = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    repetition_penalty: RepetitionOption = None,
    seed: SampleSeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Talk in the terminal: /reset forgets, /system TEXT instructs, /quit ends, Ctrl-C stops an answer."""
    from multiway_lm.chatting import talk

    sampling = Sampling(max_tokens, temperature, top_k, top_p, repetition_penalty, seed=seed)
    talk(model, sampling, system=system, device=device, dtype=dtype)


def score(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Text, .jsonl and .parquet files, folders, globs; - is stdin."
        ),
    ],
    model: ModelOption = BUNDLED_MODEL,
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
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """How likely texts are to a model: perplexity and bits per byte, document by document and together.

    Exit code 1: some documents could not be scored (named on standard error).
    """
    from multiway_lm.scoring import score_files

    lines, failed = score_files(
        paths,
        model,
        field=field,
        window=window,
        stride=stride,
        limit=limit,
        tokens=tokens,
        json=json,
        device=device,
        dtype=dtype,
    )
    write_stdout(lines if not json else json_module.dumps(lines, ensure_ascii=False, indent=2) + "\n")
    if failed:
        raise typer.Exit(1)
