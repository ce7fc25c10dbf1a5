"""The command ``snn-rnn``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import counting, write_stdout


def snn_rnn(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Data, results, table and plot; an interrupted run resumes."
        ),
    ],
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="Training runs per setting. \\[default: 3]")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small networks, part of the data, one seed.")
    ] = False,
) -> None:
    """Compare spiking and recurrent networks: accuracy, losses, step lengths, operations; about half an hour."""
    from multiway_event_detection.snn_rnn import run_comparison

    with counting("training") as on_progress:
        table = run_comparison(output, seeds=seeds, quick=quick, on_progress=on_progress)
    write_stdout(table)
