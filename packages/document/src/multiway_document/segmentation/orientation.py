"""Detection of rotated pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from multiway_document.segmentation.lines import LineRegion

_MIN_LETTERS = 40
_VERTICAL = (
    0.62  # share of letters whose nearest neighbour lies above or below; upright pages have less than 0.15
)


def lies_sideways(regions: Sequence[LineRegion], x_height: float) -> bool:
    """Whether the lines found on a page are really columns of letters of lines that run up or down.

    In a line a letter's nearest neighbour stands beside it, so where most have it above or below, the page lies on
    its side. Pages of few letters are taken as they are.
    """
    if not regions:
        return False
    pieces, owner = regions[0].components, regions[0].owner
    size = np.maximum(pieces.height, pieces.width)
    letters = np.flatnonzero((owner >= 0) & (size > 0.6 * x_height) & (size < 3 * x_height))
    if len(letters) < _MIN_LETTERS:
        return False
    centres = np.stack([(pieces.x0 + pieces.x1)[letters], (pieces.y0 + pieces.y1)[letters]], axis=1) / 2.0
    _, nearest = cKDTree(centres).query(centres, k=2)
    step = np.abs(centres[nearest[:, 1]] - centres)
    return bool(np.mean(step[:, 1] > step[:, 0]) > _VERTICAL)
