"""Colour frames with their times, from a video or a folder of pictures, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import cv2
import numpy as np
from multiway_core.errors import DataError, InputError
from numpy.typing import NDArray

from multiway_event_vision.simulator import ImageFolder


class Frame(NamedTuple):
    """(height, width, 3) uint8, red, green, blue; its time in microseconds."""

    image_HW3: NDArray[np.uint8]
    t: int


class Frames(Protocol):
    """Frames of one size in order of time, as often as asked."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def rate(self) -> float:
        """Frames a second, on average."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield them from the start at each call."""
        ...


class Grey:
    """Frames as a `FrameSource` of the simulator."""

    def __init__(self, source: Frames) -> None:
        self._source = source
        self.width, self.height = source.width, source.height

    def frames(self) -> Iterator[tuple[NDArray, int]]:
        """Yield (grey picture, microseconds)."""
        for image_HW3, t in self._source.frames():
            yield cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY), t


def open_frames(path: Path, *, width: int | None = None, frames_per_second: float | None = None) -> Frames:
    """A video file, or a folder of pictures with `images.txt` or a rate; `width` scales them down in proportion.

    `frames_per_second` stands for the file's own times. Raises DataError: nothing readable; InputError: bad arguments.
    """
    if width is not None and width < 16:
        raise InputError(f"frames {width} pixels wide; expected 16 or more")
    if frames_per_second is not None and not 0.01 <= frames_per_second <= 1e6:
        raise InputError(f"{frames_per_second:g} frames a second; expected 0.01 to 1,000,000")
    path = Path(path)
    if path.is_dir():
        return _Folder(path, width, frames_per_second)
    return _VideoFile(path, width, frames_per_second)


class _Source:
    """What a video and a folder have in common: one size, rising times."""

    def __init__(self, path: Path, width: int | None) -> None:
        self.path = path
        first = next(self._pictures(), None)
        if first is None:
            raise DataError(f"{path}: no frame can be read from it; expected a video or a folder of pictures")
        height, own_width = first.image_HW3.shape[:2]
        self.width = min(width or own_width, own_width)
        self.height = max(1, round(height * self.width / own_width))
        self._own_size = (height, own_width)

    def _pictures(self) -> Iterator[Frame]:
        raise NotImplementedError

    @property
    def rate(self) -> float:
        """Frames a second, on average."""
        raise NotImplementedError

    def frames(self) -> Iterator[Frame]:
        """Yield (picture, microseconds). Raises DataError: another size, or a time that does not rise."""
        last: int | None = None
        for image_HW3, t in self._pictures():
            if image_HW3.shape[:2] != self._own_size:
                raise DataError(
                    f"{self.path}: a frame of {image_HW3.shape[1]} x {image_HW3.shape[0]} pixels at {t} us; "
                    f"those before have {self._own_size[1]} x {self._own_size[0]}"
                )
            if last is not None and t <= last:
                raise DataError(
                    f"{self.path}: a frame of {t} us after one of {last} us; give the rate instead"
                )
            last = t
            if self._own_size != (self.height, self.width):
                size = (self.width, self.height)
                image_HW3 = np.asarray(cv2.resize(image_HW3, size, interpolation=cv2.INTER_AREA), np.uint8)
            yield Frame(image_HW3, t)


class _VideoFile(_Source):
    def __init__(self, path: Path, width: int | None, rate: float | None) -> None:
        if not path.is_file():
            raise DataError(f"cannot read {path}: no such file or folder")
        self._rate = rate
        self._own_rate = 0.0
        super().__init__(path, width)

    @property
    def rate(self) -> float:
        """Frames a second, as given or as the file tells."""
        return self._rate or self._own_rate or 25.0

    def _pictures(self) -> Iterator[Frame]:
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise DataError(f"{self.path}: has no video in it")
                stream = container.streams.video[0]
                self._own_rate = float(stream.average_rate or 0)
                rate = self._rate or self._own_rate
                has_times = self._rate is None and "avi" not in container.format.name  # AVI has a rate only
                start: float | None = None
                for number, frame in enumerate(container.decode(stream)):
                    if has_times and frame.time is not None:
                        start = frame.time if start is None else start
                        t = round((frame.time - start) * 1e6)
                    elif rate:
                        t = round(number * 1e6 / rate)
                    else:
                        raise DataError(f"{self.path}: no frame times and no frame rate; give the rate")
                    yield Frame(frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False), t)
        except av.FFmpegError as error:
            raise DataError(f"{self.path}: cannot be read as a video: {error.strerror}") from error


class _Folder(_Source):
    def __init__(self, path: Path, width: int | None, rate: float | None) -> None:
        self._files = ImageFolder(path, frames_per_second=rate).files
        super().__init__(path, width)

    @property
    def rate(self) -> float:
        """Frames a second, on average over the folder."""
        duration = self._files[-1][1] - self._files[0][1]
        return (len(self._files) - 1) * 1e6 / duration if duration > 0 else 25.0

    def _pictures(self) -> Iterator[Frame]:
        for file, t in self._files:
            image = (
                cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR) if file.stat().st_size else None
            )
            if image is None:
                raise DataError(f"{file}: no picture that can be read")
            yield Frame(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), t)
