"""The operation behind HTTP and MCP: a video in, a video of more frames out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

from multiway_core.app.serve.operation import Content, InputFile, Operation, OptionalFile, Service
from pydantic import Field

from multiway_frame_interpolation.interpolation import interpolate
from multiway_frame_interpolation.options import EventOptions, FrameOptions, OutputOptions


def frame_interpolations(
    interpolator: Any,
    video: InputFile,
    events: OptionalFile = None,
    factor: Annotated[int, Field(ge=2, le=16)] = 2,
    width: Annotated[int | None, Field(ge=16, le=1920)] = None,
) -> Content:
    """Make a video (MP4) of ``factor`` times as many frames, from the recording of an event camera.

    Without ``events`` they are made by optical flow alone. ``width``: the frames are scaled down to so many pixels. The
    sound is kept.
    """
    with tempfile.TemporaryDirectory(prefix="multiway-") as folder:
        output = Path(folder, "frames.mp4")
        source = FrameOptions(video, width=width)
        events_of = EventOptions(events)
        for _ in interpolate(source, events_of, OutputOptions(output), interpolator, factor=factor):
            pass
        return Content(output.read_bytes(), "video/mp4")


SERVICE = Service(
    operations=(Operation("/v1/frame-interpolations", frame_interpolations, media_types=("video/mp4",)),)
)
