"""Tiled TIFF files with JPEG tiles and halved levels, written row by row: what OpenSlide calls generic-tiff."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from multiway_core import files
from PIL import Image

TILE = 256
ReadTile = Callable[[int, int, int], np.ndarray]
"""(level, row, column) of a tile -> uint8 (256, 256, 3)."""


def write_pyramid(path: Path, width: int, height: int, tile: ReadTile, *, smallest: int = 512) -> None:
    """Write levels until one is at most ``smallest`` a side. Raises OutputError."""
    sizes = [(width, height)]
    while max(sizes[-1]) > smallest:
        sizes.append((max(1, sizes[-1][0] // 2), max(1, sizes[-1][1] // 2)))
    with files.atomic_write(path) as stream:
        stream.write(b"II*\0" + struct.pack("<I", 0))
        link = 4
        for level, (wide, high) in enumerate(sizes):
            places, lengths = [], []
            for row in range(-(-high // TILE)):
                for column in range(-(-wide // TILE)):
                    data = io.BytesIO()
                    Image.fromarray(tile(level, row, column)).save(data, "JPEG", quality=80)
                    places.append(stream.tell())
                    lengths.append(stream.write(data.getvalue()))
            link = _directory(stream, link, level, wide, high, places, lengths)


def _directory(
    stream: BinaryIO, link: int, level: int, width: int, height: int, places: list[int], lengths: list[int]
) -> int:
    """Write the directory of a level, let the one before point to it, and give the place of its own pointer."""

    def array(values: list[int], form: str) -> int:
        place = stream.tell() + stream.tell() % 2
        stream.seek(place)
        stream.write(struct.pack(f"<{len(values)}{form}", *values))
        return place

    count = len(places)
    bits = array([8, 8, 8], "H")
    offsets, sizes = (array(values, "I") if count > 1 else values[0] for values in (places, lengths))
    entries = [
        (254, 4, 1, int(level > 0)), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 7),
        (262, 3, 1, 6), (277, 3, 1, 3), (284, 3, 1, 1), (322, 4, 1, TILE), (323, 4, 1, TILE), (324, 4, count, offsets),
        (325, 4, count, sizes),
    ]  # fmt: skip
    start = stream.tell() + stream.tell() % 2
    stream.seek(start)
    stream.write(struct.pack("<H", len(entries)))
    for tag, kind, number, value in entries:
        stream.write(struct.pack("<HHII", tag, kind, number, value))
    pointer = stream.tell()
    stream.write(struct.pack("<I", 0))
    end = stream.tell()
    stream.seek(link)
    stream.write(struct.pack("<I", start))
    stream.seek(end)
    return pointer
