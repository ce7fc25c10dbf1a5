"""A generated slide whose parts are made when they are read, and the same as a tiled TIFF with levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from multiway_vision_language.longvit.tissue import BACKGROUND, Tissue
from PIL import Image

from multiway_pathology.tiled_tiff import TILE, write_pyramid

SEED = 1000
"""Of slides that no training has seen."""
BASE = 2048
GRAIN = 5.0
"""Deviation of the noise that stands for what lies below the pixels of the picture that is enlarged."""


class GeneratedSlide:
    """Slide ``number`` of `tissue.Tissue`, enlarged: a raster of ``side`` pixels that is never whole in memory."""

    def __init__(self, side: int, number: int = 0) -> None:
        self.name, self.width, self.height = f"generated-{number}", side, side
        self._small = Image.fromarray(Tissue(SEED).slide(number, min(side, BASE)).pixels)
        self._grain = np.random.default_rng([SEED, number]).normal(0, GRAIN, (TILE, TILE, 1))

    def read(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
        """The part (left, top, right, bottom) resized to (width, height): uint8 (height, width, 3)."""
        scale = self._small.width / self.width
        left, top, right, bottom = (min(float(self._small.width), edge * scale) for edge in box)
        part = self._small.resize(size, Image.Resampling.BICUBIC, box=(left, top, right, bottom))
        if (right - left) >= size[0]:
            return np.asarray(part)
        rows, columns = (np.arange(count) % TILE for count in (size[1], size[0]))
        return np.clip(np.asarray(part) + self._grain[rows][:, columns], 0, 255).astype(np.uint8)


def write_example(path: Path, side: int, number: int = 0) -> None:
    """Write slide ``number`` as a file, tile by tile. Raises OutputError."""
    slide = GeneratedSlide(side, number)

    def tile(level: int, row: int, column: int) -> np.ndarray:
        scale, wide = 2**level, side >> level
        size = (min(TILE, wide - column * TILE), min(TILE, wide - row * TILE))
        left, top = column * TILE * scale, row * TILE * scale
        page = np.full((TILE, TILE, 3), BACKGROUND, np.uint8)
        page[: size[1], : size[0]] = slide.read(
            (left, top, left + size[0] * scale, top + size[1] * scale), size
        )
        return page

    write_pyramid(path, side, side, tile)
