"""A generated slide as a tiled TIFF with levels, made tile by tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from multiway_vision_language.longvit.tissue import BACKGROUND, Tissue
from PIL import Image

from multiway_pathology.tiled_tiff import TILE, write_pyramid

SEED = 1000
"""Of textures that no training has seen."""
BASE = 2048


def write_example(path: Path, side: int, number: int = 0) -> None:
    """Write slide ``number``: its outline and nests are enlarged, its grain stays as fine as a scanner's.

    Raises OutputError.
    """
    small = Image.fromarray(Tissue(SEED).slide(number, min(side, BASE)).pixels)
    grain = np.random.default_rng([SEED, number]).normal(0, 5, (TILE, TILE, 1)).astype(np.float32)

    def tile(level: int, row: int, column: int) -> np.ndarray:
        wide = side >> level
        scale = small.width / wide
        left, top, right, bottom = (
            min(float(small.width), place * TILE * scale) for place in (column, row, column + 1, row + 1)
        )
        inside = [min(TILE, wide - place * TILE) for place in (column, row)]
        part = small.resize((inside[0], inside[1]), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
        page = np.full((TILE, TILE, 3), BACKGROUND, np.uint8)
        values = np.asarray(part, np.float32) + grain[: inside[1], : inside[0]]
        page[: inside[1], : inside[0]] = np.clip(values, 0, 255).astype(np.uint8)
        return page

    write_pyramid(path, side, side, tile)
