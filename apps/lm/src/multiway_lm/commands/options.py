"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="bundled:NAME, a folder, a .gguf file, or a hub id.", show_default=True
    ),
]
MaxTokensOption = Annotated[
    int | None,
    typer.Option("--max-tokens", "-n", help="Longest answer. \\[default: 512, or what the context leaves]"),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option("--temperature", "-t", help="0 takes the likeliest token. \\[default: the model's]"),
]
TopKOption = Annotated[
    int | None, typer.Option("--top-k", help="Sample from the K likeliest tokens; 0 is all.")
]
TopPOption = Annotated[
    float | None, typer.Option("--top-p", help="Sample from the likeliest tokens that reach P together.")
]
RepetitionOption = Annotated[
    float | None, typer.Option("--repetition-penalty", help="Above 1: words that were there are less likely.")
]
StopOption = Annotated[
    list[str] | None, typer.Option("--stop", help="End before this text; may be given several times.")
]
SampleSeedOption = Annotated[
    int | None, typer.Option("--seed", help="Seed of sampling. \\[default: a new one each time]")
]
