"""The ``render`` command: a recording as a video, one picture, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from multiway_core.errors import InputError
from multiway_core.files import check_output, write_bytes
from multiway_event_vision.rendering import (
    VIEWS,
    TimeSurface,
    View,
    VoxelSlice,
    pictures,
    png,
    write_folder,
)
from multiway_event_vision.times import microseconds

from multiway_event_detection.options import RecordingOptions, RenderOptions
from multiway_event_detection.streams import CountedStream, Progress, open_recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_SCALE = 16


def render_recording(
    path: Path,
    output: Path,
    recording_options: RecordingOptions,
    options: RenderOptions,
    *,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[str]:
    """Write ``output``, an .mp4, a .png of the first window, or a new folder; yields lines about it.

    Raises InputError: bad options, or no events in the stretch; DataError: a bad recording; OutputError.
    """
    kind = _kind(output)
    check_output(output, inputs=[path], overwrite=overwrite)
    window = 0 if options.window is None else microseconds(options.window, "--window")
    if options.window is None:
        if not 0.1 <= options.fps <= 1000:
            raise InputError(f"--fps {options.fps:g}: expected 0.1 to 1000")
        window = round(1e6 / options.fps)
    start = microseconds(options.start, "--start")
    end = None if options.end is None else microseconds(options.end, "--end")
    if not 1 <= options.scale <= LARGEST_SCALE:
        raise InputError(f"--scale {options.scale}: expected 1 to {LARGEST_SCALE}")
    recording, _ = open_recording(path, recording_options, infer_size=True)
    view = _view(options, recording.width, recording.height)
    found = pictures(CountedStream(recording, on_progress), view, window, start=start, end=end)
    if kind == "png":
        write_bytes(output, png(_scaled(next(found).image, options.scale)))
        count = 1
    elif kind == "mp4":
        from multiway_event_vision.rendering import write_mp4

        images = (_scaled(picture.image, options.scale) for picture in found)
        count = write_mp4(output, images, frames_per_second=options.fps)
    else:
        count = write_folder(
            output,
            ((_scaled(picture.image, options.scale), picture.start) for picture in found),
            overwrite=overwrite,
        )
    if recording.repairs is not None and (recording.repairs.outside or recording.repairs.unsorted):
        yield f"repaired: {recording.repairs}"
    speed = "" if kind != "mp4" else f", at {window * options.fps / 1e6:.3g} of real speed"
    noun = "picture" if count == 1 else "pictures"
    yield f"{count:,} {noun} of {window:,} us{speed}"


def _kind(output: Path) -> Literal["mp4", "png", "folder"]:
    suffix = output.suffix.lower()
    if suffix == ".mp4":
        return "mp4"
    if suffix == ".png":
        return "png"
    if suffix and not output.is_dir():
        raise InputError(f"--output {output}: expected a name in .mp4 or .png, or a folder")
    return "folder"


def _view(options: RenderOptions, width: int, height: int) -> View:
    if options.decay is not None and options.view != "surface":
        raise InputError(f"--decay is of --view surface, not of {options.view}")
    if options.bin is not None and options.view != "voxel":
        raise InputError(f"--bin is of --view voxel, not of {options.view}")
    if options.view == "surface":
        decay = None if options.decay is None else microseconds(options.decay, "--decay")
        return TimeSurface(width, height, decay=decay)
    if options.view == "voxel":
        return VoxelSlice(width, height, bin=options.bin)
    return VIEWS[options.view](width, height)


def _scaled(image_HW3: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    return image_HW3 if scale == 1 else image_HW3.repeat(scale, axis=0).repeat(scale, axis=1)
