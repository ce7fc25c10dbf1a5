"""Connected components of the ink, separation of rules from letters, and the letter size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from multiway_document.segmentation.arrays import GreyImage, InkMask
from multiway_document.segmentation.background import PAPER

CAP_TO_X = 1.42
"""Height of capitals and digits over the x-height, the middle of the common text faces (1.35 to 1.5)."""


INK_SHARE, MIN_INK_DEPTH = 0.25, 24.0
"""Set on receipts: more loses faint print, less joins lines and shows the paper's stains."""


_EDGE_SAMPLE = 250  # letters measured


@dataclass(frozen=True)
class Components:
    """The connected pieces of ink of a page: ``labels`` (H, W) int32 with 0 for paper; one row per label.

    ``x0, y0, x1, y1`` (N,) int32 are ink extents (x1, y1 exclusive), ``area`` (N,) ink pixels; row 0 stands
    for the paper and has no extent.
    """

    labels: npt.NDArray[np.int32]
    x0: npt.NDArray[np.int32]
    y0: npt.NDArray[np.int32]
    x1: npt.NDArray[np.int32]
    y1: npt.NDArray[np.int32]
    area: npt.NDArray[np.int32]

    @property
    def width(self) -> npt.NDArray[np.int32]:
        return self.x1 - self.x0

    @property
    def height(self) -> npt.NDArray[np.int32]:
        return self.y1 - self.y0


def find_ink(page: GreyImage, noise: np.ndarray) -> InkMask:
    """Threshold a flattened page between paper and the darkest ink nearby, so that faint print counts too.

    ``noise`` is the page's noise at any resolution (:func:`noise_map`). A pixel is ink when it is darker than
    paper by a quarter of what the darkest pixel within some 20 pixels is, and by 24 grey levels and 3.5 times
    the local noise at least.
    """
    height, width = page.shape
    small_size = (max(1, width // 4), max(1, height // 4))
    smooth = cv2.blur(page, (3, 3)) if noise.max() > 3.0 else page
    small = cv2.resize(
        cv2.erode(smooth, np.ones((4, 4), np.uint8)), small_size, interpolation=cv2.INTER_NEAREST
    )
    darkest = PAPER - cv2.blur(cv2.erode(small, np.ones((9, 9), np.uint8)), (9, 9))
    noise = cv2.resize(noise, small_size, interpolation=cv2.INTER_LINEAR)
    depth = np.maximum(INK_SHARE * darkest, np.minimum(MIN_INK_DEPTH + 4.5 * noise, 0.75 * PAPER))
    level = cv2.resize(np.clip(PAPER - depth, 0, 255).astype(np.uint8), (width, height))
    return (page < level).astype(np.uint8)


def find_components(ink: InkMask) -> Components:
    """8-connected pieces of a mask."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8, ltype=cv2.CV_32S)
    stats[0] = 0
    x0, y0, width, height, area = stats.T
    return Components(np.asarray(labels), x0, y0, x0 + width, y0 + height, area)


def estimate_x_height(components: Components) -> float | None:
    """Height of the letters without ascenders, in pixels, from the heights of all pieces; None without
    letters.

    The commonest height is the x-height in mixed text (known by a second crowd 1.3 to 1.6 times as high), or
    the capitals' height (known by a crowd at 0.62 to 0.78), or all there is, as on many receipts: then 1/1.42
    of it.
    """
    height, width = components.height, components.width
    letters = (height >= 4) & (width >= 2) & (width < 4 * height) & (height < 6 * np.maximum(width, 1))
    letters &= components.area > 0.12 * height * width
    heights = height[letters]
    if len(heights) < 3:
        heights = height[(height >= 4) & (width >= 2)]
        return float(np.median(heights)) / CAP_TO_X if len(heights) else None
    longest = int(min(heights.max(), 400))
    counts = np.bincount(np.minimum(heights, longest), weights=heights, minlength=longest + 2)
    # Each letter counts by its height, or the dots and specks of a dirty page would outvote its letters.
    # One size of type spreads over some 15 % of its height: count within a window that grows with the height.
    cumulative = np.concatenate([[0.0], np.cumsum(counts)])
    sizes = np.arange(len(counts))

    def crowd(low: float, high: float) -> float:
        a, b = int(np.floor(low)), int(np.ceil(high))
        return float(cumulative[min(max(b + 1, 0), len(counts))] - cumulative[min(max(a, 0), len(counts))])

    spread = np.array([crowd(0.93 * size, 1.07 * size) / (1 + round(0.14 * size)) ** 0.5 for size in sizes])
    mode = int(np.argmax(spread[4:]) + 4)
    core = heights[(heights >= 0.9 * mode) & (heights <= 1.1 * mode)]
    size = float(core.mean()) if len(core) else float(mode)
    here = crowd(0.9 * size, 1.1 * size)
    if crowd(1.28 * size, 1.62 * size) > 0.15 * here and size >= 4:
        return size
    lower = heights[(heights >= 0.62 * size) & (heights <= 0.8 * size)]
    if lower.sum() > 0.2 * here:
        return float(np.median(lower))
    return size / CAP_TO_X


def soft_edge(page: GreyImage, components: Components, letters: npt.NDArray[np.intp]) -> float:
    """By how many pixels the ``letters`` (labels) are higher in the mask than at half of their darkness: the median.

    A threshold that finds faint print also takes the soft edges of letters for ink: one to two pixels of an
    x-height of ten. ``page`` is what the mask was made of, white 255.
    """
    excess = []
    for label in letters[:: max(1, len(letters) // _EDGE_SAMPLE)].tolist():
        top, bottom = int(components.y0[label]), int(components.y1[label])
        window = page[top:bottom, int(components.x0[label]) : int(components.x1[label])]
        depth = 255.0 - window.min(axis=1).astype(np.float64)
        half = 0.5 * depth.max()
        dark = np.flatnonzero(depth >= half)
        if len(dark) < 2:
            continue
        first, last = int(dark[0]), int(dark[-1])
        height = float(last - first)
        # Between two rows the edge lies where the darkness would pass one half.
        for inner, outer in ((first, first - 1), (last, last + 1)):
            beyond = depth[outer] if 0 <= outer < len(depth) else 0.0
            height += (depth[inner] - half) / max(1.0, depth[inner] - beyond)
        excess.append(len(depth) - height)
    return float(np.median(excess)) if excess else 0.0
