"""The order in which a person reads boxes: a recursive XY-cut that tells columns of prose from columns of
a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multiway_document.result import Box

_MIN_COLUMN_LINES = 3
_MIN_COLUMN_WIDTH = 14.0  # x-heights, some 7 em; narrower columns are cells, which are read across
_MIN_FILL = 0.5  # median share of the column's width that its lines take; cells leave more of it free


def reading_order(boxes: Sequence[Box], x_heights: Sequence[float]) -> tuple[list[int], list[int]]:
    """(order, block): indices of the boxes as read, and the number of the block that each of these belongs
    to.

    A region is cut into columns where a gutter leaves prose on both sides; lines that cross the gutter
    (titles) split the columns above from those below. Regions without a gutter are read row by row, left to
    right, and a new block begins after a gap of more than a line.
    """
    if not boxes:
        return [], []
    boxes_N4 = np.asarray(boxes, np.float64)
    x = float(np.median(x_heights))
    groups = _read(np.arange(len(boxes_N4)), boxes_N4, x)
    order = [int(i) for group in groups for i in group]
    blocks = [number for number, group in enumerate(groups) for _ in group]
    return order, blocks


def _read(region: np.ndarray, boxes: np.ndarray, x: float) -> list[list[int]]:
    """Groups (blocks) of a region's boxes in reading order."""
    zones = _column_zones(region, boxes, x)
    if zones is None:
        return _rows(region, boxes)
    return [group for zone in zones for group in _read(zone, boxes, x)]


def _column_zones(region: np.ndarray, boxes: np.ndarray, x: float) -> list[np.ndarray] | None:
    """The region cut at its best gutter into zones in reading order, or None without one."""
    if len(region) < 2 * _MIN_COLUMN_LINES:
        return None
    x0, y0, x1, y1 = boxes[region].T
    by_y = np.argsort(y0 + y1)
    best: tuple[float, list[np.ndarray]] | None = None
    for gutter in _gutters(x0, x1):
        crossing = (x0 < gutter) & (x1 > gutter)
        zones: list[np.ndarray] = []
        gain = 0.0
        for run in _runs(by_y, crossing):
            left, right = run[x1[run] <= gutter], run[x0[run] >= gutter]
            if not crossing[run[0]] and _is_prose(left, x0, x1, x) and _is_prose(right, x0, x1, x):
                gain += min(len(left), len(right))
                zones += [left, right]
            else:
                zones.append(run)
        if gain and (best is None or gain > best[0]):
            best = gain, zones
    if best is None:
        return None
    # Neighbouring zones that stayed whole are one.
    return [region[zone] for zone in best[1]]


def _gutters(x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
    """The x positions that fewest boxes cross locally: middles of the minima of coverage."""
    left, right = x0.min(), x1.max()
    grid = np.linspace(left, right, 129)[1:-1]
    coverage = np.sum((x0[:, None] < grid) & (x1[:, None] > grid), axis=0)
    edges = np.flatnonzero(np.diff(coverage)) + 1
    plateaus = np.split(np.arange(len(grid)), edges)
    levels = [coverage[p[0]] for p in plateaus]
    return np.array(
        [
            grid[plateau].mean()
            for k, plateau in enumerate(plateaus)
            if 0 < k < len(plateaus) - 1 and levels[k] < levels[k - 1] and levels[k] < levels[k + 1]
        ]
    )


def _runs(by_y: np.ndarray, crossing: np.ndarray) -> list[np.ndarray]:
    changes = np.flatnonzero(np.diff(crossing[by_y].astype(np.int8))) + 1
    return np.split(by_y, changes)


def _is_prose(lines: np.ndarray, x0: np.ndarray, x1: np.ndarray, x: float) -> bool:
    if len(lines) < _MIN_COLUMN_LINES:
        return False
    width = x1[lines].max() - x0[lines].min()
    return bool(width >= _MIN_COLUMN_WIDTH * x and np.median(x1[lines] - x0[lines]) >= _MIN_FILL * width)


def _rows(region: np.ndarray, boxes: np.ndarray) -> list[list[int]]:
    """Rows from top to bottom, each from left to right, grouped into blocks by the white between rows."""
    x0, y0, _, y1 = boxes.T
    rows: list[list[int]] = []
    for i in sorted(region.tolist(), key=lambda i: y0[i] + y1[i]):
        if rows:
            last = rows[-1]
            top, bottom = float(np.mean(y0[last])), float(np.mean(y1[last]))
            shared = min(bottom, y1[i]) - max(top, y0[i])
            if shared > 0.5 * min(bottom - top, y1[i] - y0[i]):
                last.append(i)
                continue
        rows.append([i])
    groups: list[list[int]] = []
    previous_bottom = -np.inf
    for row in rows:
        row.sort(key=lambda i: x0[i])
        top, bottom = float(np.min(y0[row])), float(np.max(y1[row]))
        if not groups or top - previous_bottom > 0.6 * (bottom - top):
            groups.append([])
        groups[-1] += row
        previous_bottom = bottom
    return groups
