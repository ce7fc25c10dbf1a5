"""Pictures as an MP4 file that browsers play: H.264, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from multiway_core.errors import InputError, OutputError
from multiway_core.files import atomic_write
from numpy.typing import NDArray

from multiway_event_vision.rendering.sound import sound_of

_QUALITY = "18"  # x264's constant rate factor; thin coloured lines suffer above


def write_mp4(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    *,
    frames_per_second: float = 30.0,
    sound: Path | None = None,
) -> int:
    """Write (height, width, 3) uint8 pictures of one size as H.264 and return their number; memory holds a few.

    sound: a video whose sound the new one has, too. Raises as `mp4_writer`.
    """
    count = 0
    with mp4_writer(path, frames_per_second=frames_per_second, sound=sound) as add:
        for image_HW3 in images:
            add(image_HW3)
            count += 1
    return count


@contextmanager
def mp4_writer(
    path: Path, *, frames_per_second: float = 30.0, sound: Path | None = None
) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Yield a function that adds a (height, width, 3) uint8 picture to an H.264 video, whole when the block ends.

    An odd width or height, which the format does not have, is filled up by repeating the last column or row.
    sound: a video whose sound is added, from its first frame on and as long as there are pictures.
    Raises InputError: no picture, one of another size, or a rate outside 0.1 to 1000; OutputError.
    """
    if not 0.1 <= frames_per_second <= 1000:
        raise InputError(f"{frames_per_second:g} frames a second; expected 0.1 to 1000")
    rate = Fraction(frames_per_second).limit_denominator(1001)
    size: tuple[int, ...] | None = None
    with atomic_write(path) as file:
        try:
            with av.open(file, "w", format="mp4") as container, ExitStack() as stack:
                stream = container.add_stream("libx264", rate=rate)
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": _QUALITY, "preset": "veryfast"}
                add_sound = stack.enter_context(sound_of(sound, container))
                count = 0

                def add(image_HW3: NDArray[np.uint8]) -> None:
                    nonlocal size, count
                    if size is None:
                        size = image_HW3.shape
                        stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
                    if image_HW3.shape != size:
                        raise InputError(f"a picture of shape {image_HW3.shape} after one of {size}")
                    even_HW3 = np.pad(image_HW3, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even_HW3), format="rgb24")
                    container.mux(stream.encode(frame))
                    count += 1
                    add_sound(count / frames_per_second)

                yield add
                if size is None:
                    raise InputError("no pictures to make a video of")
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise OutputError(f"cannot write {path}: the video encoder says: {error}") from error
