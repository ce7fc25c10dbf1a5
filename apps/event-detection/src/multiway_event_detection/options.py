"""Names, options and groups of options that the commands share; nothing here takes time to import."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from multiway_core.app import stdin_file
from multiway_core.errors import InputError

EventFormat = Literal["dat", "evt2", "evt3", "aedat4", "npz", "hdf5", "csv"]
ViewName = Literal["frame", "count", "surface", "voxel"]
Unit = Literal["us", "ms", "s", "ns"]
EngineName = Literal["event", "micro-batch", "window"]
PresetName = Literal["ssla", "prophesee", "prophesee-1mpx", "coco"]
PolicyName = Literal["continuous", "window", "sliding"]
PolicyChoice = Literal["auto", PolicyName]


RecordingArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RECORDING|-", help="DAT, RAW, HDF5, AEDAT4, ...; - is stdin.", callback=stdin_file
    ),
]
FormatOption = Annotated[
    EventFormat | None,
    typer.Option("--format", "-f", help="\\[default: by the ending: dat, raw (evt3), aedat4, npz, h5, csv]"),
]


@dataclass(frozen=True)
class RecordingOptions:
    """How recordings are read: what their files do not tell, and whether to repair them."""

    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WxH", help="Sensor size in pixels, if the file has none; or infer."),
    ] = None
    time_unit: Annotated[
        Unit | None, typer.Option("--time-unit", help="Unit of timestamps in npz, HDF5 and text files.")
    ] = None
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="txyp", help="Column order of a text file.")
    ] = None
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Sort late events; drop events off the sensor and a truncated end."),
    ] = False


@dataclass(frozen=True)
class SimulationOptions:
    """How events of a video are made; None is the package's own value."""

    width: Annotated[
        int | None,
        typer.Option("--width", min=1, help="Resize the video to this width. \\[default: at most 304]"),
    ] = None
    upsample: Annotated[
        int | None,
        typer.Option(
            "--upsample", help="Frame interpolation factor before simulation. \\[default: up to 160 fps]"
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Random seed of the simulated sensor.")
    ] = None


@dataclass(frozen=True)
class EngineOptions:
    """How a detector runs; ``period`` is a time such as ``10ms``."""

    engine: Annotated[
        EngineName,
        typer.Option(
            "--engine", help="Inference per event, per slice, or per window; all give the same boxes."
        ),
    ] = "event"
    policy: Annotated[
        PolicyChoice,
        typer.Option(
            "--policy",
            help="State as the model's config says, kept for the whole stream, reset every 100 ms, or the last 50 to "
            "100 ms.",
        ),
    ] = "auto"
    period: Annotated[
        str, typer.Option("--period", metavar="TIME", help="Time between two predictions: 1ms, 500us, 0.1s.")
    ] = "10ms"


@dataclass(frozen=True)
class VideoOptions:
    """How a video of detections looks: the options of ``render``, in part."""

    view: Annotated[
        ViewName, typer.Option("--view", help="Event representation in the video, as in render.")
    ] = "frame"
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="TIME",
            help="Accumulation time of a frame. \\[default: the period, at least 20ms]",
        ),
    ] = None
    fps: Annotated[float, typer.Option("--fps", help="Frame rate of the video.")] = 30.0
    scale: Annotated[
        int | None,
        typer.Option(
            "--scale", min=1, max=16, help="Enlargement of the video. \\[default: to 640 pixels of width]"
        ),
    ] = None


@dataclass(frozen=True)
class RenderOptions:
    """How a recording is drawn; times such as ``10ms``, counted from the first event."""

    view: Annotated[
        ViewName,
        typer.Option(
            "--view",
            help="frame: polarity sum; count: event count; surface: time surface; voxel: one time bin.",
        ),
    ] = "frame"
    window: Annotated[
        str | None,
        typer.Option(
            "--window", metavar="TIME", help="Accumulation time of a frame: 10ms. \\[default: 1/fps]"
        ),
    ] = None
    fps: Annotated[float, typer.Option("--fps", help="Frame rate of the video.")] = 30.0
    start: Annotated[
        str, typer.Option("--start", metavar="TIME", help="Start time, relative to the first event.")
    ] = "0"
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="End time, relative to the first event.")
    ] = None
    scale: Annotated[int, typer.Option("--scale", help="Integer enlargement, 1 to 16.")] = 1
    decay: Annotated[
        str | None,
        typer.Option("--decay", metavar="TIME", help="Decay of the time surface. \\[default: the window]"),
    ] = None
    bin: Annotated[
        int | None, typer.Option("--bin", help="Which of the 5 time bins to draw, from 0. \\[default: 2]")
    ] = None


@dataclass(frozen=True)
class SensorOptions:
    """The simulated sensor's properties; None is the sensor's own value."""

    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0.0, help="Contrast threshold in log intensity. \\[default: 0.2]"),
    ] = None
    threshold_off: Annotated[
        float | None,
        typer.Option(
            "--threshold-off", min=0.0, help="Contrast threshold of OFF events. \\[default: as --threshold]"
        ),
    ] = None
    threshold_sigma: Annotated[
        float | None,
        typer.Option(
            "--threshold-sigma",
            min=0.0,
            help="Standard deviation of thresholds across pixels. \\[default: 0.03]",
        ),
    ] = None
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise", min=0.0, help="Shot noise rate per pixel, Hz. \\[default: 0; 0.5 with --shapes]"
        ),
    ] = None
    leak: Annotated[
        float | None, typer.Option("--leak", min=0.0, help="Leak event rate per pixel, Hz. \\[default: 0.1]")
    ] = None
    refractory: Annotated[
        str | None, typer.Option("--refractory", metavar="TIME", help="Refractory period. \\[default: 0]")
    ] = None
    cutoff: Annotated[
        float | None,
        typer.Option("--cutoff", min=0.0, help="Photoreceptor low-pass cutoff, Hz. \\[default: none]"),
    ] = None


def sensor_size(text: str, option: str = "--size") -> tuple[int, int]:
    """``640x480`` as (width, height) in pixels. Raises InputError."""
    found = re.fullmatch(r"\(?(\d{1,6})\s*[x, ]\s*(\d{1,6})\)?", text.strip())
    if found is None:
        raise InputError(f"{option} {text}: expected width and height in pixels, such as 640x480")
    return int(found[1]), int(found[2])
