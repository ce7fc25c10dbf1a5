"""The command ``draw``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import DeviceOption, SeedOption, write_stdout


def draw(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A LatentLM: a folder that train wrote, or a hub id.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A .png with a row a class, or .safetensors with the latents.",
        ),
    ],
    classes: Annotated[
        list[int] | None,
        typer.Option("--class", help="What to draw; several times for more.", show_default="every class"),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="Pictures of each class.")] = 8,
    guidance: Annotated[
        float, typer.Option("--guidance", help="Weight of classifier-free guidance; 1: none.")
    ] = 4.0,
    steps: Annotated[
        int, typer.Option("--steps", help="Evaluations of the diffusion head for a latent.")
    ] = 20,
    sampler: Annotated[
        str, typer.Option("--sampler", help="dpm, or ddpm (adds noise in every step).")
    ] = "dpm",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Draw pictures of classes with a LatentLM (next-token diffusion), as train --preset latent-lm-digits makes it."""
    from multiway_lm.draw import draw_pictures

    draw_pictures(
        model,
        output,
        classes=classes or [],
        count=count,
        guidance=guidance,
        steps=steps,
        sampler=sampler,
        seed=seed,
        device=device,
    )
    write_stdout(f"{output}\n")
