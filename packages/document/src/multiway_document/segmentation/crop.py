"""One line of a prepared page as the reader's input: 32 rows, x-height about 10, base line always in one
place."""

from __future__ import annotations

import cv2
import numpy as np

from multiway_document.segmentation.arrays import GreyImage
from multiway_document.segmentation.lines import NO_LINE, LineRegion
from multiway_document.segmentation.preparation import PreparedPage

X_HEIGHT_SHARE = 10 / 32
"""x-height over crop height: 10 rows of 32."""

BASELINE_SHARE = 23 / 32
"""Row of the base line over crop height: letters without descenders end on row 22 of 32 (23 is below
them)."""

LETTER_WIDTH = 0.8
"""Median width of a line's letters, in x-heights, below which it is widened: the faces of receipt printers."""

MAX_STRETCH = 1.4

MARGIN = 4
"""White columns left and right of the ink."""


def crop_line(prepared: PreparedPage, region: LineRegion, height: int = 32) -> GreyImage:
    """(height, W) uint8 crop of one line, dark on white, contrast stretched; W is at least 8.

    The line's own x-height becomes ``X_HEIGHT_SHARE`` of the height and its base line falls on row 23/32, so there is
    room for accents above and 9 rows for descenders below. Condensed letters are widened. Ink of neighbouring lines,
    and what is known to be no text (rules, drawings), is left out.
    """
    # Of the letters themselves, without the soft edges that the mask has.
    x_height = region.x_height - min(region.soft_edge, 0.3 * region.x_height)
    baseline = region.baseline - region.soft_edge / 2
    scale = X_HEIGHT_SHARE * height / x_height
    rows = height / scale
    page_height, page_width = prepared.grey.shape
    top = round(baseline - BASELINE_SHARE * rows)
    bottom = max(top + 1, round(baseline + (1 - BASELINE_SHARE) * rows))
    left, right = max(0, int(region.box[0]) - 1), min(page_width, int(np.ceil(region.box[2])) + 1)
    inner_top, inner_bottom = max(0, top), min(page_height, bottom)
    window = slice(inner_top, inner_bottom), slice(left, right)
    crop = prepared.grey[window].copy()
    owner = region.owner[region.components.labels[window]]
    foreign = ((owner != NO_LINE) & (owner != region.number)).astype(np.uint8) | prepared.rules[window]
    own = (owner == region.number).astype(np.uint8)
    if foreign.any():  # with the grey rim of its strokes, but not into the line's own
        ring = np.ones((3, 3), np.uint8)
        crop[(cv2.dilate(foreign, ring) > 0) & (cv2.dilate(own, ring) == 0)] = 255
    if own.any():
        darkest = float(np.percentile(crop[own.astype(bool)], 10))
        if darkest > 8:
            gain = min(4.0, 255.0 / max(1.0, 255.0 - darkest))
            crop = cv2.convertScaleAbs(255 - crop, alpha=gain)
            crop = cv2.bitwise_not(crop)
    crop = cv2.copyMakeBorder(
        crop, inner_top - top, bottom - inner_bottom, 0, 0, cv2.BORDER_CONSTANT, value=255
    )
    scale = height / crop.shape[0]
    width = max(1, round(crop.shape[1] * scale * _stretch(region)))
    crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(crop, 0, 0, MARGIN, MARGIN, cv2.BORDER_CONSTANT, value=255)


def _stretch(region: LineRegion) -> float:
    """By how much a line is widened, 1 to ``MAX_STRETCH``; lines of few letters are left as they are."""
    pieces = region.components
    members = region.owner == region.number
    widths = pieces.width[members & (pieces.height > 0.8 * region.x_height)]
    if len(widths) < 3:
        return 1.0
    return min(max(1.0, LETTER_WIDTH * region.x_height / float(np.median(widths))), MAX_STRETCH)
