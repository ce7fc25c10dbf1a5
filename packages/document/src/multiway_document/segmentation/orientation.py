"""Detection of rotated pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multiway_document.segmentation.lines import LineRegion

_MIN_LETTERS = 40
_ASKED = 1000  # letters of a page whose neighbours are looked for
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
    asked = range(0, len(letters), -(-len(letters) // _ASKED))
    step = np.array([_nearest(centres, index) for index in asked])
    return bool(np.mean(step[:, 1] > step[:, 0]) > _VERTICAL)


def _nearest(centres: np.ndarray, index: int) -> np.ndarray:
    """How far (x, y) the letter nearest to one lies from it."""
    steps = np.abs(centres - centres[index])
    distances = np.einsum("nd,nd->n", steps, steps)
    distances[index] = np.inf
    return np.asarray(steps[distances.argmin()])
