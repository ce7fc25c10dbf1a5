"""The command line ``multiway-lm``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

import typer
from multiway_core.app import run

from multiway_lm.commands.serving import demo, serve
from multiway_lm.commands.study import bench, distill, evaluate, quantize, train
from multiway_lm.commands.words import chat, generate, score
from multiway_lm.model import PROGRAM

cli = typer.Typer(
    name=PROGRAM,
    help="Small language models: continue, chat, score, train, shrink and serve them, on this machine and offline.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (generate, chat, score, evaluate, train, distill, quantize, bench, serve, demo):
    cli.command()(command)


def main() -> None:
    """Entry point of the command ``multiway-lm``."""
    run(cli, name=PROGRAM)


if __name__ == "__main__":
    main()
