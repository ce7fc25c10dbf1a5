"""Slides read by OpenSlide, and ordinary pictures by Pillow, as rasters whose parts are read on demand."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openslide
from multiway_core.errors import InputError
from multiway_vision_language.longvit.pipeline import Raster, Roi, raster_of
from PIL import Image

MAX_REGION = 1 << 25
"""Pixels of a level that are read at once; a slide without smaller levels is read in bands."""
MARGIN = 2
MICRONS = (0.01, 100.0)
"""A pixel outside of these is wrong metadata."""


class SlideRaster:
    """A file that OpenSlide knows: SVS, NDPI, MRXS, SCN, BIF, VMS, tiled TIFF and OME-TIFF, DICOM."""

    def __init__(self, path: Path) -> None:
        """Raises InputError: damaged, or of no kind that OpenSlide reads."""
        self.name = str(path)
        self._lock = threading.Lock()
        self._slide: Any = _guarded(self.name, lambda: openslide.OpenSlide(path))
        self.width, self.height = self._slide.dimensions
        self.level_sizes: list[tuple[int, int]] = list(self._slide.level_dimensions)
        if min(self.width, self.height) < 1:
            raise InputError(f"{path}: the slide has no pixels")

    @property
    def vendor(self) -> str:
        """The format, in OpenSlide's word."""
        return str(self._slide.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown"))

    @property
    def microns(self) -> tuple[float, float] | None:
        """Width and height of a pixel in micrometres; None where the file does not say, or says what cannot be."""
        found = []
        for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y):
            try:
                found.append(float(self._slide.properties.get(name, "nan")))
            except ValueError:
                return None
        if not all(MICRONS[0] <= value <= MICRONS[1] for value in found):
            return None
        return found[0], found[1]

    def read(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
        """The part (left, top, right, bottom) resized to (width, height): uint8 (height, width, 3).

        From the level that is nearest above the wanted resolution; transparent places are white. Raises InputError: the
        file is damaged there.
        """
        left, top, right, bottom = box
        wanted = min((right - left) / size[0], (bottom - top) / size[1])
        with self._lock:
            level = self._slide.get_best_level_for_downsample(max(1.0, wanted))
            factor = self._slide.level_downsamples[level]
        if (right - left) * (bottom - top) / factor**2 <= MAX_REGION or size[1] <= 1:
            return self._resized(box, size, level, factor)
        half = size[1] // 2
        scale = (bottom - top) / size[1]
        above_end, below_start = min(size[1], half + MARGIN), max(0, half - MARGIN)
        if above_end == size[1] or below_start == 0:
            return self._resized(box, size, level, factor)
        above = self.read((left, top, right, top + above_end * scale), (size[0], above_end))
        below = self.read((left, top + below_start * scale, right, bottom), (size[0], size[1] - below_start))
        return np.concatenate([above[:half], below[half - below_start :]])

    def _resized(
        self, box: tuple[float, float, float, float], size: tuple[int, int], level: int, factor: float
    ) -> np.ndarray:
        left, top, right, bottom = (value / factor for value in box)
        x, y = max(0, math.floor(left) - 4), max(0, math.floor(top) - 4)
        width, height = (
            min(self.level_sizes[level][axis], math.ceil(end) + 4) - start
            for axis, start, end in ((0, x, right), (1, y, bottom))
        )
        place = (round(x * factor), round(y * factor))

        def part() -> Any:
            with self._lock:
                return self._slide.read_region(place, level, (max(1, width), max(1, height)))

        read = _guarded(self.name, part)
        page = Image.new("RGB", read.size, "white")
        page.paste(read, mask=read.getchannel("A"))
        inner = (max(0, left - x), max(0, top - y), min(right - x, read.width), min(bottom - y, read.height))
        return np.asarray(page.resize(size, Image.Resampling.BICUBIC, box=inner))


def open_slide(path: Path) -> Raster:
    """A slide or a picture. Raises InputError, one line: missing, empty, damaged, of another kind, too large."""
    path = Path(path)
    if not path.exists() or path.is_dir() or path.stat().st_size == 0:
        return raster_of(path)  # which says what is wrong
    try:
        known = openslide.OpenSlide.detect_format(path)
    except openslide.OpenSlideError:
        known = None
    if known is not None:
        return SlideRaster(path)
    return raster_of(path)


def parse_region(text: str | None) -> Roi | None:
    """LEFT,TOP,WIDTH,HEIGHT as numbers; None of None. Raises InputError."""
    if text is None:
        return None
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"region {text!r}: expected LEFT,TOP,WIDTH,HEIGHT in pixels, such as 0,0,4096,4096"
        ) from None
    return left, top, width, height


def describe(raster: Raster) -> dict[str, Any]:
    """What ``info`` prints."""
    row: dict[str, Any] = {"source": raster.name, "width": raster.width, "height": raster.height}
    if isinstance(raster, SlideRaster):
        microns = raster.microns
        return row | {
            "format": raster.vendor,
            "levels": [list(size) for size in raster.level_sizes],
            "microns_per_pixel": None if microns is None else list(microns),
        }
    return row | {"format": "picture", "levels": [[raster.width, raster.height]], "microns_per_pixel": None}


def _guarded(name: str, action: Any) -> Any:
    try:
        return action()
    except (openslide.OpenSlideError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: the slide is damaged or of an unknown variant ({reason})") from error
