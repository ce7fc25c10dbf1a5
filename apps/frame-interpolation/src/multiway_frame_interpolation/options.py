"""Groups of options that the commands share; nothing here takes time to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import OverwriteOption, ReportOptions, SeedOption

SUB_FRAMES = 8  # that a simulated sensor sees for each frame of a video

Unit = Literal["us", "ms", "s", "ns"]


MethodName = Literal["auto", "timereplayer", "dis", "integration"]

RateOption = Annotated[
    float | None,
    typer.Option("--input-fps", help="Frame rate of the input. \\[default: of the file]"),
]


@dataclass(frozen=True)
class FrameOptions:
    """Where frames come from. input_fps: frames a second, instead of the file's own times. width: scales them down."""

    source: Annotated[Path, typer.Argument(metavar="VIDEO|DIR", help="A video, or a folder of pictures.")]
    input_fps: RateOption = None
    width: Annotated[int | None, typer.Option("--width", help="Downscale the frames to this width.")] = None


@dataclass(frozen=True)
class EventOptions:
    """Where events come from: a recording, or a sensor simulated on the frames themselves.

    scale: what the recording's coordinates are multiplied with. offset: time from the frames' zero to the events',
    which may be negative.
    """

    events: Annotated[
        Path | None,
        typer.Option("--events", metavar="FILE", help="Recording of the same pixels: RAW, HDF5, npz ..."),
    ] = None
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate", help="Without an event camera: events of a sensor that sees these frames."
        ),
    ] = False
    scale: Annotated[
        int,
        typer.Option(
            "--event-scale", help="What the events' coordinates are multiplied with (Time Lens: 32)."
        ),
    ] = 1
    offset: Annotated[
        str,
        typer.Option("--event-offset", metavar="TIME", help="Offset added to event timestamps: 20ms, -0.5s."),
    ] = "0"
    time_unit: Annotated[
        Unit | None, typer.Option("--time-unit", help="Unit of timestamps in npz, HDF5 and text files.")
    ] = None
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="txyp", help="Column order of a text file.")
    ] = None
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Sort late events; drop events off the frames and a truncated end."),
    ] = False
    seed: SeedOption = 0

    def offset_us(self) -> int:
        """The offset in microseconds. Raises InputError."""
        from multiway_event_vision.times import microseconds

        text = self.offset.strip()
        return (-1 if text.startswith("-") else 1) * microseconds(text.lstrip("+-"), "--event-offset")


@dataclass(frozen=True)
class OutputOptions:
    """Where frames go. fps: frames a second of a video that is written."""

    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="A video .mp4, or a new folder of pictures.")
    ]
    fps: Annotated[
        float | None,
        typer.Option("--fps", help="Frame rate of the output video. \\[default: real time]"),
    ] = None
    overwrite: OverwriteOption = False


@dataclass(frozen=True)
class GapReport(ReportOptions):
    """A report over gaps."""

    limit: Annotated[int, typer.Option("--limit", help="Gaps to evaluate per video, evenly spread.")] = 10
