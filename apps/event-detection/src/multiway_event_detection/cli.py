"""The command line. Numpy, torch and OpenCV are not imported here: ``--help`` answers at once."""

from __future__ import annotations

import os

import typer
from multiway_core.app import run

from multiway_event_detection.commands.detection import demo, detect, evaluate, train
from multiway_event_detection.commands.recordings import convert, info, render, simulate
from multiway_event_detection.commands.study import study
from multiway_event_detection.options import PROGRAM

cli = typer.Typer(
    name=PROGRAM,
    help="Event cameras: detect objects in recordings; look into, convert, render and simulate them.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (detect, evaluate, demo, train, info, convert, render, simulate, study):
    cli.command()(command)


def main() -> None:
    """Entry point of the command ``multiway-event-detection``."""
    # OpenCV and the FFmpeg inside it write lines of their own about bad videos; ours says it once.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    run(cli, name=PROGRAM)


if __name__ == "__main__":
    main()
