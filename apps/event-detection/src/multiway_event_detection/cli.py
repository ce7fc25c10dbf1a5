"""The command line. Numpy, torch and OpenCV are not imported here: ``--help`` answers at once."""

from __future__ import annotations

import os

import typer
from multiway_core.app import run

from multiway_event_detection.commands.detection import demo, detect, evaluate, train
from multiway_event_detection.commands.recordings import convert, info, render, simulate
from multiway_event_detection.options import PROGRAM

cli = typer.Typer(
    name=PROGRAM,
    help="Event cameras: detect objects in recordings; look into, convert, render and simulate them.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (detect, evaluate, demo, train, info, convert, render, simulate):
    cli.command()(command)


@cli.command()
def study(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Data, results, table and plot; goes on there."),
    ],
    seeds: Annotated[int | None, typer.Option("--seeds", help="Runs of every cell. [default: 3]")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small networks, a part of the data, one seed.")
    ] = False,
) -> None:
    """Compare spiking and recurrent networks: accuracy, losses, step lengths, operations; about half an hour."""
    from multiway_event_detection.study import run_study

    with progress_bar() as progress:
        bar = progress.add_task("training", total=None)
        table = run_study(
            output,
            seeds=seeds,
            quick=quick,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    write_stdout(table)


def main() -> None:
    """Entry point of the command ``multiway-event-detection``."""
    # OpenCV and the FFmpeg inside it write lines of their own about bad videos; ours says it once.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    run(cli, name=PROGRAM)


if __name__ == "__main__":
    main()
