"""The command line ``multiway-tts``. Torch and Gradio are not imported here: ``--help`` answers at once."""

from __future__ import annotations

import typer
from multiway_core.app import run

from multiway_tts.commands.demo import demo
from multiway_tts.commands.evaluate import evaluate, train
from multiway_tts.commands.files import voices, watermark
from multiway_tts.commands.speak import speak
from multiway_tts.model import PROGRAM

cli = typer.Typer(
    name=PROGRAM,
    help="Scripts to speech: several speakers, long form, heard while it is made, on this machine and offline.",
    no_args_is_help=True,
    add_completion=False,
)
cli.command()(speak)
cli.add_typer(voices, name="voices")
cli.add_typer(watermark, name="watermark")
cli.command()(evaluate)
# The recipe reads its own options.
cli.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)(train)
cli.command()(demo)


def main() -> None:
    """Entry point of the command ``multiway-tts``."""
    run(cli, name=PROGRAM)


if __name__ == "__main__":
    main()
