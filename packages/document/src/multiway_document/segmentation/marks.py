"""Isolated small marks that could be text: a dash in a table cell, an asterisk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from multiway_document.segmentation.components import Components

_FREE = 1.2  # x-heights of white around a sign that stands alone
_BULLET_GAP = 4.0  # x-heights: a sign so close before a line is its bullet, not a cell


def find_lone_marks(
    pieces: Components, owner: npt.NDArray[np.int32], lines: dict[int, tuple[float, float]], page_x: float
) -> dict[int, tuple[float, float]]:
    """Make lines of the signs that stand alone in a row of lines (``owner`` in place): number -> (base line,
    x-height), both of the nearest line of the row.

    A sign is a dash or something compact, as tall as the middle of small letters and in their band. It has white
    around it, and stands over or under other lines, as cells do. Where there are more of them than half the lines
    they are the dirt of the page, and none is taken.
    """
    if len(lines) < 2:
        return {}
    numbers = np.array(sorted(lines), np.int32)
    baseline, own_x = np.array([lines[int(n)] for n in numbers]).T
    taken = np.flatnonzero(owner >= 0)
    row = np.searchsorted(numbers, owner[taken])
    x0, x1 = np.full(len(numbers), 1 << 30), np.full(len(numbers), -1)
    np.minimum.at(x0, row, pieces.x0[taken])
    np.maximum.at(x1, row, pieces.x1[taken])

    height, width = pieces.height, pieces.width
    dash = (
        (height <= 0.4 * page_x) & (width >= 1.8 * height) & (width >= 0.4 * page_x) & (width <= 3 * page_x)
    )
    compact = (height >= 0.4 * page_x) & (height <= 1.15 * page_x) & (width >= 0.4 * page_x)
    compact &= (width <= 1.3 * page_x) & (pieces.area >= 0.1 * page_x * page_x)
    signs = np.flatnonzero((owner == -1) & (dash | compact) & (pieces.area >= 4))
    loose = np.flatnonzero((owner != -1) | (pieces.area >= 0.02 * page_x * page_x))
    loose = loose[pieces.area[loose] > 0]
    found: dict[int, tuple[float, float]] = {}
    following = int(numbers.max()) + 1
    for sign in signs.tolist():
        a, b = float(pieces.x0[sign]), float(pieces.x1[sign])
        top, bottom = float(pieces.y0[sign]), float(pieces.y1[sign])
        middle = (top + bottom) / 2
        # From the middle of commas' tops to that of capitals; asterisks hang from the capitals' height.
        beside = np.abs(middle - (baseline - 0.6 * own_x)) < (0.35 if dash[sign] else 0.6) * own_x
        beside &= (bottom <= baseline + 0.1 * own_x) & (np.abs(own_x / page_x - 1) < 0.4)
        beside &= (x1 < a) | (x0 > b)
        if not beside.any():
            continue
        gap = np.where(x0 > b, x0 - b, a - x1)[beside]
        nearest = np.flatnonzero(beside)[int(np.argmin(gap))]
        before = x1[beside] < a
        if not before.any() and gap.min() < _BULLET_GAP * own_x[nearest]:
            continue
        column = (x0 - own_x < b) & (x1 + own_x > a) & ~beside & (np.abs(baseline - middle) < 8 * own_x)
        if not column.any():
            continue
        white = _FREE * page_x
        near = (pieces.x0[loose] < b + white) & (pieces.x1[loose] > a - white)
        near &= (pieces.y0[loose] < bottom + 0.5 * page_x) & (pieces.y1[loose] > top - 0.5 * page_x)
        if np.count_nonzero(near) > 1:
            continue
        owner[sign] = following
        found[following] = float(baseline[nearest]), float(own_x[nearest])
        following += 1
    if 2 * len(found) > len(lines):
        for number in found:
            owner[owner == number] = -1
        return {}
    return found
