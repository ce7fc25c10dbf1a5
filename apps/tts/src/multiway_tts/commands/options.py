"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

KeyOption = Annotated[
    str,
    typer.Option(
        "--watermark-key",
        envvar="MULTIWAY_WATERMARK_KEY",
        help="Key of the watermark; only who has it can look for the mark.",
    ),
]
ConsentOption = Annotated[
    bool,
    typer.Option(
        "--consent", help="I state that the people in the recordings agreed to having their voice imitated."
    ),
]
CfgOption = Annotated[
    float | None,
    typer.Option("--cfg", help="Weight of guidance; 1 is none and twice as fast. \\[default: the model's]"),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, help="Diffusion steps a frame. \\[default: the model's]")
]
