"""Options that several commands have, and what they show meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from multiway_core.app import note

from multiway_event_detection.options import PROGRAM, EngineName, EventFormat, PolicyName, Unit

RecordingArgument = Annotated[Path, typer.Argument(metavar="RECORDING", help="DAT, RAW, HDF5, AEDAT4, ...")]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="WxH", help="The sensor's pixels, where the file does not tell; or infer."
    ),
]
UnitOption = Annotated[Unit | None, typer.Option("--time-unit", help="Of npz, HDF5 and text files.")]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", metavar="txyp", help="Order of a text file's columns.")
]
RepairOption = Annotated[
    bool, typer.Option("--repair", help="Sort late events; leave out those off the sensor and a cut end.")
]
FormatOption = Annotated[
    EventFormat | None,
    typer.Option("--format", "-f", help="[default: by the ending: dat, raw (evt3), npz, h5, csv]"),
]

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
EngineOption = Annotated[
    EngineName,
    typer.Option("--engine", help="event by event, slices, or windows from their beginning: the same boxes."),
]
PolicyOption = Annotated[
    PolicyName,
    typer.Option("--policy", help="It remembers for ever, 100 ms anew, or the last 50 to 100 ms."),
]
ReadEveryOption = Annotated[
    str, typer.Option("--read-every", metavar="TIME", help="Between read-outs: 1ms, 500us, 0.1s.")
]


def tell(lines: list[str]) -> None:
    """Each line on standard error, as the program's."""
    for line in lines:
        note(f"{PROGRAM}: {line}")
