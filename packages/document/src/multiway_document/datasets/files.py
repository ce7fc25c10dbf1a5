"""Shared file handling of the page data sets: image and annotation pairs, boxes from polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multiway_core.data_files import number
from multiway_core.errors import DataError

from multiway_document.result import Box

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def points_to_box(values: list[Any], where: str) -> Box:
    """The box around points given as x, y, x, y, ...: two (a box) or four (a quadrilateral)."""
    if len(values) not in (4, 8):
        raise DataError(f"{where}: expected 4 or 8 coordinates, got {len(values)}")
    coordinates = [number(value, where) for value in values]
    xs, ys = coordinates[::2], coordinates[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def find_image(stem: Path) -> Path | None:
    """The picture with this path but for its suffix."""
    for suffix in IMAGE_SUFFIXES:
        for spelled in (suffix, suffix.upper()):
            path = stem.with_name(stem.name + spelled)
            if path.is_file():
                return path
    return None


def image_of(stem: Path, annotation: Path) -> Path:
    """The picture that an annotation belongs to; a DataError names both if there is none."""
    found = find_image(stem)
    if found is None:
        raise DataError(f"{annotation}: no picture {stem}{{{','.join(IMAGE_SUFFIXES)}}}")
    return found


def has_files(folder: Path, pattern: str) -> bool:
    """Whether the folder exists and holds a file of the pattern."""
    return folder.is_dir() and next(folder.glob(pattern), None) is not None
