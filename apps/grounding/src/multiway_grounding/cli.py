"""The command line ``multiway-grounding``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer
from multiway_core.app import DeviceOption, DtypeOption, ModelOption, run

from multiway_grounding.commands.picture import ask, caption, describe, locate, prompt
from multiway_grounding.commands.results import batch, export
from multiway_grounding.commands.study import evaluate, train
from multiway_grounding.model import BUNDLED_MODEL, PROGRAM

cli = typer.Typer(
    name=PROGRAM,
    help="Find what words name in pictures, and put pictures into words, on this machine and offline.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (caption, locate, describe, ask, prompt, batch, export, evaluate, train):
    cli.command()(command)


@cli.command()
def demo(
    model: ModelOption = BUNDLED_MODEL,
    host: Annotated[str, typer.Option("--host", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="[default: first free from 7860]")] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Open a public tunnel.")] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Open the demo page in this machine's browser."""
    from multiway_core.app import launch

    from multiway_grounding.demo import build_demo

    launch(build_demo(model, device=device, dtype=dtype), host, port, share=share)


def main() -> None:
    """Entry point of the command ``multiway-grounding``."""
    run(cli, name=PROGRAM)


if __name__ == "__main__":
    main()
