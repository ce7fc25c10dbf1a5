"""Lines drawn on a page: frames, rules between rows, underlines, and the strokes over and under amounts."""

from __future__ import annotations

import cv2
import numpy as np

from multiway_document.segmentation.arrays import InkMask

HORIZONTAL, VERTICAL = 8.0, 6.0
"""Straight runs of ink of so many x-heights are rules wherever they stand: dashes and brackets are shorter."""

SHORT = 2.2
"""Horizontal runs of so many x-heights are rules where they stand clear of letters that lie right above or below:
an underlined word, a total. A dash has no letters above it."""

_NEAR = 0.9  # x-heights between such a rule and its letters
_COVERED = 0.5  # share of the rule that letters stand over or under
_CLEAR = 0.25  # ink in the rows next to the rule; the feet of serifs that touch have stems on one side


def find_rules(ink: InkMask, x_height: float) -> InkMask:
    """The ruled lines of a page, (H, W) uint8: long thin straight runs of ink, and short ones over or under words."""
    return np.maximum(long_rules(ink, x_height), short_rules(ink, x_height))


def long_rules(ink: InkMask, x_height: float) -> InkMask:
    """Runs of ink far longer than any stroke and thinner than 0.6 x-heights; thick bars are left for the picture
    filter."""
    rules = np.zeros_like(ink)
    for length, horizontal in ((HORIZONTAL * x_height, True), (VERTICAL * x_height, False)):
        size = max(3, round(length))
        kernel = np.ones((1, size) if horizontal else (size, 1), np.uint8)
        runs = cv2.morphologyEx(ink, cv2.MORPH_OPEN, kernel)
        if not runs.any():
            continue
        thick = max(2, round(0.6 * x_height))
        across = np.ones((thick, 1) if horizontal else (1, thick), np.uint8)
        runs = cv2.subtract(runs, cv2.morphologyEx(runs, cv2.MORPH_OPEN, across))
        # Ragged edges of the rule go with it, but not the letters that stand on it.
        around = np.ones((3, 1) if horizontal else (1, 3), np.uint8)
        rules = np.maximum(rules, cv2.dilate(runs, around) & ink)
    return rules


def short_rules(ink: InkMask, x_height: float) -> InkMask:
    """Thin horizontal runs of ink with letters right above or below, from which white parts them."""
    rules = np.zeros_like(ink)
    size = max(5, round(SHORT * x_height))
    # A rule that leans by a pixel is made of two runs.
    thick = cv2.dilate(ink, np.ones((2, 1), np.uint8), anchor=(0, 1))
    runs = cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones((1, size), np.uint8))
    if not runs.any():  # labelling an empty page takes as long as all the rest
        return rules
    count, labels, stats, _ = cv2.connectedComponentsWithStats(runs, connectivity=8)
    thin = [i for i in range(1, count) if stats[i, cv2.CC_STAT_HEIGHT] <= 0.35 * x_height + 2]
    near = max(3, round(_NEAR * x_height))
    for i in thin:
        left, top, width, height, _ = stats[i]
        bottom = top + height
        columns = slice(left, left + width)
        above = ink[max(0, top - near) : top, columns]
        below = ink[bottom : bottom + near, columns]
        # One row is left to the soft edge of the rule.
        if any(len(side) and side.mean() > _CLEAR for side in (above[-2:-1], below[1:2])):
            continue
        others = [
            side & (runs[rows, columns] == 0)
            for side, rows in (
                (above, slice(max(0, top - near), top)),
                (below, slice(bottom, bottom + near)),
            )
        ]
        if max(np.count_nonzero(side.any(axis=0)) for side in others) > _COVERED * width:
            window = slice(max(0, top - 1), bottom + 1), columns
            own = (labels[window] == i).astype(np.uint8)
            rules[window] |= cv2.dilate(own, np.ones((3, 1), np.uint8)) & ink[window]
    return rules
