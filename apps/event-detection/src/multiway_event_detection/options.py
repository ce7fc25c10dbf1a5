"""Names, options and groups of options that the commands share; nothing here takes time to import."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.errors import InputError

EventFormat = Literal["dat", "evt2", "evt3", "npz", "hdf5", "csv"]
ViewName = Literal["frame", "count", "surface", "voxel"]
Unit = Literal["us", "ms", "s", "ns"]
EngineName = Literal["event", "micro-batch", "window"]
PresetName = Literal["ssla", "prophesee", "prophesee-1mpx", "coco"]
PolicyName = Literal["continuous", "window", "sliding"]


RecordingArgument = Annotated[Path, typer.Argument(metavar="RECORDING", help="DAT, RAW, HDF5, AEDAT4, ...")]
FormatOption = Annotated[
    EventFormat | None,
    typer.Option("--format", "-f", help="[default: by the ending: dat, raw (evt3), npz, h5, csv]"),
]


@dataclass(frozen=True)
class RecordingOptions:
    """How recordings are read: what their files do not tell, and whether to repair them."""

    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="WxH", help="The sensor's pixels, where the file does not tell; or infer."
        ),
    ] = None
    time_unit: Annotated[Unit | None, typer.Option("--time-unit", help="Of npz, HDF5 and text files.")] = None
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="txyp", help="Order of a text file's columns.")
    ] = None
    repair: Annotated[
        bool, typer.Option("--repair", help="Sort late events; leave out those off the sensor and a cut end.")
    ] = False


@dataclass(frozen=True)
class SimulationOptions:
    """How events of a video are made; None is the package's own value."""

    width: Annotated[
        int | None, typer.Option("--width", min=1, help="Scale a video. [default: at most 304]")
    ] = None
    upsample: Annotated[
        int | None,
        typer.Option("--upsample", help="Frames for each of a video's own. [default: 160 a second]"),
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of the simulated sensor.")] = None


@dataclass(frozen=True)
class EngineOptions:
    """How a detector takes events in and is read; ``period`` a time such as ``10ms``."""

    engine: Annotated[
        EngineName,
        typer.Option(
            "--engine", help="event by event, slices, or windows from their beginning: the same boxes."
        ),
    ] = "event"
    policy: Annotated[
        PolicyName,
        typer.Option("--policy", help="It remembers for ever, 100 ms anew, or the last 50 to 100 ms."),
    ] = "continuous"
    period: Annotated[
        str, typer.Option("--period", metavar="TIME", help="Between two predictions: 1ms, 500us, 0.1s.")
    ] = "10ms"


@dataclass(frozen=True)
class VideoOptions:
    """How a video of detections looks: the options of ``render``, in part."""

    view: Annotated[ViewName, typer.Option("--view", help="Of the video, as in render.")] = "frame"
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="TIME", help="Of events in a picture. [default: 20ms or more]"),
    ] = None
    fps: Annotated[float, typer.Option("--fps", help="Pictures a second of the video.")] = 30.0
    scale: Annotated[
        int | None, typer.Option("--scale", min=1, max=16, help="Of the video. [default: 640 pixels wide]")
    ] = None


@dataclass(frozen=True)
class RenderOptions:
    """How a recording is drawn; times such as ``10ms``, counted from the first event."""

    view: Annotated[
        ViewName,
        typer.Option(
            "--view",
            help="frame: brighter minus darker; count: all; surface: newest events; voxel: a time bin.",
        ),
    ] = "frame"
    window: Annotated[
        str | None, typer.Option("--window", metavar="TIME", help="Of a picture: 10ms. [default: 1/fps]")
    ] = None
    fps: Annotated[float, typer.Option("--fps", help="Pictures a second of the video.")] = 30.0
    start: Annotated[
        str, typer.Option("--start", metavar="TIME", help="From here on, after the first event.")
    ] = "0"
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="Up to here, after the first event.")
    ] = None
    scale: Annotated[int, typer.Option("--scale", help="Each pixel as so many a side, 1 to 16.")] = 1
    decay: Annotated[
        str | None, typer.Option("--decay", metavar="TIME", help="Of the surface. [default: the window]")
    ] = None
    bin: Annotated[
        int | None, typer.Option("--bin", help="Of the window's 5 time bins, from 0. [default: 2]")
    ] = None


@dataclass(frozen=True)
class SensorOptions:
    """The simulated sensor's properties; None is the sensor's own value."""

    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0.0, help="Change of log intensity an event. [default: 0.2]"),
    ] = None
    threshold_off: Annotated[
        float | None,
        typer.Option("--threshold-off", min=0.0, help="Of darker events. [default: as --threshold]"),
    ] = None
    threshold_sigma: Annotated[
        float | None,
        typer.Option("--threshold-sigma", min=0.0, help="Spread between pixels. [default: 0.03]"),
    ] = None
    noise: Annotated[
        float | None, typer.Option("--noise", min=0.0, help="Hertz a pixel. [default: 0; 0.5 with --shapes]")
    ] = None
    leak: Annotated[float | None, typer.Option("--leak", min=0.0, help="Hertz a pixel. [default: 0.1]")] = (
        None
    )
    refractory: Annotated[
        str | None, typer.Option("--refractory", metavar="TIME", help="Blind after an event. [default: 0]")
    ] = None
    cutoff: Annotated[
        float | None, typer.Option("--cutoff", min=0.0, help="Hertz of the pixels' low-pass. [default: none]")
    ] = None


def sensor_size(text: str, option: str = "--size") -> tuple[int, int]:
    """``640x480`` as (width, height) in pixels. Raises InputError."""
    found = re.fullmatch(r"\(?(\d{1,6})\s*[x, ]\s*(\d{1,6})\)?", text.strip())
    if found is None:
        raise InputError(f"{option} {text}: expected width and height in pixels, such as 640x480")
    return int(found[1]), int(found[2])
