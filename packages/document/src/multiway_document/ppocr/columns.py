"""Lines that the detector drew across the white between two columns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from multiway_document.ppocr.detector import Quads
from multiway_document.ppocr.recogniser import CropReading, crop_quad
from multiway_document.ppocr.straighten import straighten
from multiway_document.segmentation.reading_order import boxes_across_gutters

GUTTER = 0.5  # line heights: narrower white is a blank between words
SLACK = 0.15  # line heights by which letters may reach into a gutter


def split_at_gutters(
    image: npt.NDArray[np.uint8], quads: Quads, known: dict[int, CropReading]
) -> tuple[Quads, dict[int, CropReading]]:
    """Lines that run from one column into the next, cut in two where the gutter is white in them too."""
    places = straighten(quads)
    heights = [0.45 * (place[3] - place[1]) for place in places]
    parts: dict[int, list[Quads]] = {}
    for index, left, right in boxes_across_gutters(places, heights):
        x0, _, x1, _ = places[index]
        gap = _white_gap(crop_quad(image, quads[index]), (left - x0) / (x1 - x0), (right - x0) / (x1 - x0))
        if gap is not None and index not in parts:
            parts[index] = [_part(quads[index], 0.0, gap[0]), _part(quads[index], gap[1], 1.0)]
    if not parts:
        return quads, known
    kept = [index for index in range(len(quads)) if index not in parts]
    numbers = {index: number for number, index in enumerate(kept)}
    pieces = [quads[index] for index in kept] + [part for index in parts for part in parts[index]]
    return np.stack(pieces), {numbers[index]: reading for index, reading in known.items() if index in numbers}


def _white_gap(crop: npt.NDArray[np.uint8], start: float, end: float) -> tuple[float, float] | None:
    """The run of columns without ink around ``start..end`` (shares of the width) if it is wider than other
    blanks, or as wide as the gutter there."""
    grey = crop.mean(axis=2)
    contrast = float(np.ptp(grey))
    ink = np.abs(grey - np.median(grey)) > 0.35 * contrast
    inked = np.flatnonzero(ink.mean(axis=0) > 0.04)
    if len(inked) < 2:
        return None
    height, width = grey.shape
    gaps = [(a + 1, b) for a, b in pairwise(inked) if b - a > 1]
    middle = (start + end) / 2 * width
    across = [gap for gap in gaps if gap[0] - 0.5 * height < middle < gap[1] + 0.5 * height]
    if not across:
        return None
    gap = max(across, key=lambda gap: gap[1] - gap[0])
    blanks = [other[1] - other[0] for other in gaps if other != gap and other[1] - other[0] > 0.15 * height]
    usual = float(np.median(blanks)) if blanks else 0.0
    slack = SLACK * height
    is_corridor = gap[0] < start * width + slack and gap[1] > end * width - slack
    if gap[1] - gap[0] < GUTTER * height or not (is_corridor or gap[1] - gap[0] >= 1.5 * usual):
        return None
    if min(gap[0], width - gap[1]) < height:  # not two lines, but one and a speck
        return None
    return gap[0] / width, gap[1] / width


def _part(quad: npt.NDArray[np.float32], start: float, end: float) -> Quads:
    """The quadrilateral between two shares of its width."""
    top, bottom = quad[1] - quad[0], quad[2] - quad[3]
    return np.stack(
        [quad[0] + start * top, quad[0] + end * top, quad[3] + end * bottom, quad[3] + start * bottom]
    )
