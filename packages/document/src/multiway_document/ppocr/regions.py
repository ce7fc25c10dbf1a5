"""Lines read by the network as the regions that the rules of markdown look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multiway_document.ppocr.recogniser import CropReading
from multiway_document.result import Box
from multiway_document.segmentation.components import CAP_TO_X, Components
from multiway_document.segmentation.lines import LineRegion

X_HEIGHT, BELOW = 0.44, 0.27
"""x-height, and what lies below the base line, over the height of a detected line."""

SAME_SIZE = 0.25  # logarithm of the ratio of two heights of lines in one size of type


def regions_of(
    places: Sequence[Box], readings: Sequence[CropReading], blocks: Sequence[int]
) -> list[LineRegion]:
    """One region a line on the straightened page; each of its words stands for one piece of ink."""
    x0, x1, y0, y1, owner = [0], [0], [0], [0], [-1]
    sizes = [X_HEIGHT * (bottom - top) for _, top, _, bottom in places]
    usual = float(np.median(sizes)) if sizes else 1.0
    # Lines of one size are detected higher where they have capitals and tails.
    sizes = [usual if abs(np.log(size / usual)) < SAME_SIZE else size for size in sizes]
    bases = [bottom - BELOW * (bottom - top) for _, top, _, bottom in places]
    for number, ((start, _, end, _), reading) in enumerate(zip(places, readings, strict=True)):
        for word in reading.words:
            x0.append(round(start + word.start * (end - start)))
            x1.append(round(start + word.end * (end - start)))
            y0.append(round(bases[number] - CAP_TO_X * sizes[number]))
            y1.append(round(bases[number]))
            owner.append(number)
    left, right, top, bottom = (np.array(values, np.int32) for values in (x0, x1, y0, y1))
    area = ((right - left) * (bottom - top)).astype(np.int32)
    pieces = Components(np.zeros((1, 1), np.int32), left, top, right, bottom, area)
    owners = np.array(owner, np.int32)
    return [
        LineRegion(place, block, base, size, number, owners, pieces)
        for number, (place, block, base, size) in enumerate(zip(places, blocks, bases, sizes, strict=True))
    ]
