"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

KeyOption = Annotated[
    str,
    typer.Option(
        "--watermark-key",
        envvar="MULTIWAY_WATERMARK_KEY",
        help="Key of the watermark; only its owner can detect the mark.",
    ),
]
ConsentOption = Annotated[
    bool,
    typer.Option("--consent", help="States that the people in the recordings agreed to voice cloning."),
]
CfgOption = Annotated[
    float | None,
    typer.Option(
        "--cfg",
        help="Weight of classifier-free guidance; 1 is none and twice as fast. \\[default: the model's]",
    ),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, help="Diffusion steps per frame. \\[default: the model's]")
]
SpeedOption = Annotated[
    float, typer.Option("--speed", min=0.5, max=2.0, help="Times the model's own speed, at the same pitch.")
]
PauseOption = Annotated[
    float | None,
    typer.Option(
        "--pause",
        min=0.0,
        max=60.0,
        metavar="SECONDS",
        help="Silence between sentences where the script has none of its own. \\[default: the model's]",
    ),
]
