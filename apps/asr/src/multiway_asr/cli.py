"""The command line ``multiway-asr``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

import typer
from multiway_core.app import run

from multiway_asr.commands.evaluate import evaluate, train
from multiway_asr.commands.transcribe import demo, transcribe
from multiway_asr.transcriber import PROGRAM

cli = typer.Typer(
    name=PROGRAM,
    help="Who said what and when: transcripts of recordings and videos, on this machine and offline.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (transcribe, evaluate, demo):
    cli.command()(command)
# What stands behind `train` belongs to the recipe, its --help too.
cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})(train)


def main() -> None:
    """Entry point of the command ``multiway-asr``."""
    run(cli, name=PROGRAM)


if __name__ == "__main__":
    main()
