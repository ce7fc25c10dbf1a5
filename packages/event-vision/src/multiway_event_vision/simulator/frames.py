"""Input of a simulated sensor: grey pictures with their times, from a video, a folder, or code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from multiway_core.errors import DataError, InputError
from numpy.typing import NDArray

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


class FrameSource(Protocol):
    """Pictures in order of time, as often as asked."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def frames(self) -> Iterator[tuple[NDArray, int]]:
        """Yield ((height, width) uint8 or float of 0 to 1, time in microseconds), from the start at each call."""
        ...


class Video:
    """A video file, made grey; `width` scales it down, keeping its proportions."""

    def __init__(
        self, path: Path | str, *, width: int | None = None, frames_per_second: float | None = None
    ) -> None:
        """`frames_per_second` stands for the file's own rate. Raises DataError: no readable video, or no rate."""
        self.path = Path(path)
        if width is not None and width < 1:
            raise InputError(f"a video {width} pixels wide; expected 1 or more")
        first = next(self._pictures(), None)
        if first is None:
            raise DataError(f"{self.path}: no frame can be read from it; expected a video")
        rate = frames_per_second or self._rate()
        if not 0.01 <= rate <= 1e6:
            raise DataError(f"{self.path}: a rate of {rate:g} frames a second cannot be; say what it is")
        self.frames_per_second = rate
        height, own_width = first.shape
        self.width = width or own_width
        self.height = max(1, round(height * self.width / own_width))

    def frames(self) -> Iterator[tuple[NDArray, int]]:
        """Yield (grey picture, microseconds from the start)."""
        for number, picture in enumerate(self._pictures()):
            if picture.shape != (self.height, self.width):
                size = (self.width, self.height)
                picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
            yield picture, round(number * 1e6 / self.frames_per_second)

    def _rate(self) -> float:
        capture = cv2.VideoCapture(str(self.path))
        try:
            return float(capture.get(cv2.CAP_PROP_FPS))
        finally:
            capture.release()

    def _pictures(self) -> Iterator[NDArray[np.uint8]]:
        if not self.path.is_file():
            raise DataError(f"cannot read {self.path}: no such file")
        capture = cv2.VideoCapture(str(self.path))
        try:
            while True:
                is_read, picture = capture.read()
                if not is_read:
                    return
                yield _grey(picture)
        finally:
            capture.release()


class ImageFolder:
    """Pictures of a folder in order of their names, or as its `images.txt` lists them (`seconds name` a line)."""

    def __init__(self, path: Path | str, *, frames_per_second: float | None = None) -> None:
        """`frames_per_second` stands for the listed times.

        Raises DataError: no pictures, none of their times, or one that is listed and missing.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(f"{self.path} is no folder; expected one of pictures")
        listed = next(
            (p for p in (self.path / "images.txt", self.path.parent / "images.txt") if p.is_file()), None
        )
        if frames_per_second is None and listed is not None:
            self.files = self._listed(listed)
        else:
            files = sorted(file for file in self.path.iterdir() if file.suffix.lower() in _PICTURES)
            if frames_per_second is None and files:
                raise DataError(
                    f"{self.path}: no images.txt with times beside the pictures; say how many frames a second there are"
                )
            rate = frames_per_second or 1.0
            if not 0.01 <= rate <= 1e6:
                raise InputError(f"a rate of {rate:g} frames a second; expected 0.01 to 1,000,000")
            self.files = [(file, round(number * 1e6 / rate)) for number, file in enumerate(files)]
        if not self.files:
            raise DataError(f"{self.path}: no pictures in it; expected {', '.join(sorted(_PICTURES))}")
        self.height, self.width = self._read(self.files[0][0]).shape

    def frames(self) -> Iterator[tuple[NDArray, int]]:
        """Yield (grey picture, microseconds). Raises DataError: a picture that is unreadable or of another size."""
        for file, t in self.files:
            picture = self._read(file)
            if picture.shape != (self.height, self.width):
                height, width = picture.shape
                raise DataError(
                    f"{file}: {width} x {height} pixels; those before have {self.width} x {self.height}"
                )
            yield picture, t

    def _listed(self, listed: Path) -> list[tuple[Path, int]]:
        files = []
        for number, line in enumerate(listed.read_text("utf-8", "replace").splitlines(), 1):
            words = line.split()
            if not words or line.startswith("#"):
                continue
            try:
                t = round(float(words[0]) * 1e6)
                file = self.path / Path(words[1]).name
            except (ValueError, IndexError, OverflowError) as error:
                raise DataError(
                    f"{listed}:{number}: {line[:60]!r}; expected seconds and a file's name"
                ) from error
            if not file.is_file():
                raise DataError(f"{listed}:{number}: lists {words[1]}, which is not in {self.path}")
            files.append((file, t))
        return files

    @staticmethod
    def _read(file: Path) -> NDArray[np.uint8]:
        picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR) if file.stat().st_size else None
        if picture is None:
            raise DataError(f"{file}: no picture that can be read")
        return _grey(picture)


def _grey(picture: NDArray) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture
    return np.asarray(grey, np.uint8)
