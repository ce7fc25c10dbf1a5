"""The order in which a person reads boxes: a recursive XY-cut that tells columns of prose from columns of
a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multiway_document.result import Box

_MIN_COLUMN_LINES = 3
_MIN_COLUMN_WIDTH = 14.0  # x-heights, some 7 em; narrower columns are cells, which are read across
_MIN_FILL = 0.5  # median share of the column's width that its lines take; cells leave more of it free
_GRID = 0.5  # x-heights between two places that are tried as a gutter
_MAX_CROSSING = 0.5  # lines across a gutter over those beside it on the poorer side
_NEIGHBOURS = 5.0  # line heights above and below, within which neighbours show where a gutter is white
_RIM = 0.6  # x-heights
_OVERHANG = 1.5  # x-heights by which a box may reach into the next column
_LEVEL = 0.2  # share of a line's height that one beside it has in common; columns need not have one grid
_PICTURE = 12.0  # x-heights: what is higher is no line
_MARGIN_ROWS = 2  # a running head or foot has at most so many rows
_MARGIN_GAP = 2.2  # and stands so many x-heights away from the text, which is more than paragraphs do


def reading_order(boxes: Sequence[Box], x_heights: Sequence[float]) -> tuple[list[int], list[int]]:
    """(order, block): indices of the boxes as read, and the number of the block that each of these belongs
    to.

    A region is cut into columns where a gutter leaves prose on both sides; lines that cross the gutter
    (titles) split the columns above from those below. Regions without a gutter are read row by row, left to
    right, and a new block begins after a gap of more than a line.
    """
    if not boxes:
        return [], []
    x = float(np.median(x_heights))
    boxes_N4 = _without_rims(boxes, x)
    head, body, foot = _margins(boxes_N4, x)
    groups = [group for part in (head, body, foot) if len(part) for group in _read(part, boxes_N4, x)]
    order = [int(i) for group in groups for i in group]
    blocks = [number for number, group in enumerate(groups) for _ in group]
    return order, blocks


def boxes_across_gutters(boxes: Sequence[Box], x_heights: Sequence[float]) -> list[tuple[int, float, float]]:
    """(index, left, right): boxes that lie across a gutter, and the white corridor x of their neighbours there.

    They may be titles, or lines of two columns that were taken for one: what stands in the corridor tells.
    """
    if len(boxes) < 4 * _MIN_COLUMN_LINES:
        return []
    x = float(np.median(x_heights))
    x0, y0, x1, y1 = _without_rims(boxes, x).T
    found = []
    for gutter in _gutters(x0, x1, x):
        crossing = _crosses(gutter, x0, y0, x1, y1, x)
        left, right = (
            np.flatnonzero(~crossing & side) for side in (x0 + x1 < 2 * gutter, x0 + x1 >= 2 * gutter)
        )
        if np.count_nonzero(crossing) > _MAX_CROSSING * min(len(left), len(right)):
            continue
        if not (_is_prose(left, x0, y0, x1, y1, x) and _is_prose(right, -x1, y0, -x0, y1, x)):
            continue
        for index in np.flatnonzero(crossing):
            distance = np.abs(y0 + y1 - y0[index] - y1[index]) / 2
            reach = _NEIGHBOURS * (y1[index] - y0[index])
            near_left, near_right = left[distance[left] < reach], right[distance[right] < reach]
            if len(near_left) > 1 and len(near_right) > 1:
                found.append((int(index), float(x1[near_left].max()), float(x0[near_right].min())))
    return found


def _without_rims(boxes: Sequence[Box], x: float) -> np.ndarray:
    """The boxes (N, 4), narrower by what a detector leaves around the ink, so that none reaches into a gutter."""
    boxes_N4 = np.array(boxes, np.float64)
    rim = np.minimum(_RIM * x, 0.25 * (boxes_N4[:, 2] - boxes_N4[:, 0]))
    boxes_N4[:, 0] += rim
    boxes_N4[:, 2] -= rim
    return boxes_N4


def _margins(boxes: np.ndarray, x: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the running head, of the text and of the running foot, which cross no column but belong to none."""
    order = np.argsort(boxes[:, 1] + boxes[:, 3], kind="stable")
    head = _margin(order, boxes[:, 1], boxes[:, 3], x)
    below = _margin(order[::-1][: len(order) - len(head)], -boxes[:, 3], -boxes[:, 1], x)
    return head, order[len(head) : len(order) - len(below)], below[::-1]


def _margin(order: np.ndarray, near: np.ndarray, far: np.ndarray, x: float) -> np.ndarray:
    """The first lines of ``order`` if they are few rows with more white behind them than any text has within it.

    ``near`` and ``far`` are where lines begin and end on the way into the page.
    """
    if len(order) < 4 * _MIN_COLUMN_LINES:
        return order[:0]
    reached, rows, row_end = far[order[0]], 1, far[order[0]]
    for count in range(1, len(order)):
        line = order[count]
        if near[line] - reached > _MARGIN_GAP * x:
            return order[:count]
        if near[line] > row_end - 0.3 * x:
            rows += 1
            row_end = far[line]
            if rows > _MARGIN_ROWS:
                break
        reached = max(reached, far[line])
    return order[:0]


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
    by_y = np.argsort(y0 + y1, kind="stable")
    best: tuple[float, list[np.ndarray]] | None = None
    for gutter in _gutters(x0, x1, x):
        crossing = _crosses(gutter, x0, y0, x1, y1, x)
        beside = _beside_insets(crossing, x0, y0, x1, y1)
        zones: list[np.ndarray] = []
        gain = 0.0
        for run in _runs(by_y[beside[by_y] < 0], crossing):
            is_left = (x0 + x1)[run] < 2 * gutter
            left, right = run[is_left], run[~is_left]
            insets = by_y[np.isin(beside[by_y], run)]
            if crossing[run[0]] or not (
                _is_prose(left, x0, y0, x1, y1, x) and _is_prose(right, -x1, y0, -x0, y1, x)
            ):
                zones.append(np.concatenate([run, insets]))
                continue
            gain += min(len(left), len(right))
            zones += [left, right, insets] if len(insets) else [left, right]
        # A gutter beside a picture crosses the lines above and below it; the columns' own crosses few.
        score = gain - len(zones) - np.count_nonzero(crossing)
        if gain and (best is None or score > best[0]):
            best = score, zones
    if best is None:
        return None
    return [region[zone] for zone in best[1]]


def _gutters(x0: np.ndarray, x1: np.ndarray, x: float) -> np.ndarray:
    """The x positions that fewest boxes cross locally: middles of the minima of coverage."""
    left, right = x0.min(), x1.max()
    grid = np.linspace(left, right, min(2000, max(9, int((right - left) / (_GRID * x)))))[1:-1]
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


def _crosses(
    gutter: float, x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray, x: float
) -> np.ndarray:
    """Which boxes reach well into both columns. Pictures, which are not of a line's height, belong to one."""
    reach = _OVERHANG * x
    return np.asarray((x0 < gutter - reach) & (x1 > gutter + reach) & (y1 - y0 < _PICTURE * x))


def _beside_insets(
    crossing: np.ndarray, x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray
) -> np.ndarray:
    """For each box that crosses a gutter with lines on both sides that run past it, one of these; -1 for all others.

    Such boxes are captions of pictures between columns: they interrupt no column, as titles do, and are read after
    the columns that they stand in.
    """
    beside = np.full(len(crossing), -1)
    for index in np.flatnonzero(crossing):
        shared = np.minimum(y1, y1[index]) - np.maximum(y0, y0[index])
        level = ~crossing & (shared > _LEVEL * np.minimum(y1 - y0, y1[index] - y0[index]))
        left, right = np.flatnonzero(level & (x1 <= x0[index])), np.flatnonzero(level & (x0 >= x1[index]))
        if len(left) and len(right):
            beside[index] = left[0]
    return beside


def _runs(by_y: np.ndarray, crossing: np.ndarray) -> list[np.ndarray]:
    changes = np.flatnonzero(np.diff(crossing[by_y].astype(np.int8))) + 1
    return np.split(by_y, changes)


def _is_prose(
    lines: np.ndarray, x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray, x: float
) -> bool:
    """Whether the lines next to a gutter on their right (mirrored: on their left) are the lines of a column.

    What lies further away may be columns of its own: of several lines in a row only the one at the gutter counts.
    """
    if len(lines) < _MIN_COLUMN_LINES:
        return False
    a, b, top, bottom = x0[lines], x1[lines], y0[lines], y1[lines]
    shared = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    beside = shared > _LEVEL * np.minimum(bottom - top, (bottom - top)[:, None])
    behind = np.any(beside & (a[None, :] >= b[:, None]), axis=1)  # another line of the row stands between
    if np.count_nonzero(~behind) < _MIN_COLUMN_LINES:
        return False
    start = np.quantile(a[~behind], 0.25)
    width = np.quantile(b[~behind], 0.75) - start  # beside a picture the next column may show
    # A line may have been found in pieces.
    parts = np.where(beside & (b[None, :] > start), b - np.maximum(a, start), 0.0)
    return bool(width >= _MIN_COLUMN_WIDTH * x and np.median(parts[~behind].sum(axis=1)) >= _MIN_FILL * width)


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
