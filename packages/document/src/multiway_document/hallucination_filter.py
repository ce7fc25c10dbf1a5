"""Rejects readings that are no text: what a line reader makes of stamps, ornaments, specks and bars.

Whatever it is shown, the reader answers with characters, but without conviction, and what it answers has the marks of
chance: lone letters, signs that hardly ever stand in a text, sizes that no other line of the page has. Limits were set
on training receipts of SROIE, so that most such regions go and lines that are read half right stay.
"""

from __future__ import annotations

import numpy as np

from multiway_document.segmentation import LineRegion

HOPELESS = 0.37
"""Below this mean probability no reading has to do with what is printed."""

DOUBTFUL = 0.6
FAIR = 0.9
ODD_SIZE = 1.7  # x-height over the page's

_USUAL = frozenset(".,:;-–—()/'’‘\"“”%&$€£#@*!?+=°•·")


def is_stray_reading(text: str, confidence: float, region: LineRegion, page_x_height: float) -> bool:
    """Whether a reading of ``region`` should be left out.

    ``confidence`` is the mean probability of its characters, ``page_x_height`` the usual x-height of the page's
    lines in the region's pixels.
    """
    signs = text.replace(" ", "")
    if not signs or confidence < HOPELESS:
        return True
    usual = sum(sign in _USUAL or (sign.isascii() and sign.isalnum()) for sign in signs)
    strange = 1 - usual / len(signs)
    if region.mark:  # the signs that stand alone in cells, a figure or two, and nothing by chance
        return confidence < DOUBTFUL or any(map(str.isalpha, signs))
    large = region.x_height > ODD_SIZE * page_x_height
    if confidence < DOUBTFUL and (large or (len(signs) <= 2 and confidence < 0.5) or strange > 0.4):
        return True
    odd = strange + sum(sign in _USUAL for sign in signs) / len(signs)
    return confidence < FAIR and large and odd >= 0.25 and len(signs) > 1


def usual_x_height(regions: list[LineRegion]) -> float:
    """The x-height of most of the ink of a page's lines, weighted by their widths; 1.0 without lines."""
    if not regions:
        return 1.0
    heights = np.array([region.x_height for region in regions])
    widths = np.array([region.box[2] - region.box[0] for region in regions])
    order = np.argsort(heights)
    reached = np.cumsum(widths[order])
    return float(heights[order][np.searchsorted(reached, reached[-1] / 2)])
