"""Lines of text on a prepared page, from the bottom up: pieces of ink -> neighbours -> lines."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from multiway_document.result import Box
from multiway_document.segmentation.components import CAP_TO_X, Components, find_components
from multiway_document.segmentation.preparation import PreparedPage
from multiway_document.segmentation.reading_order import reading_order

SPLIT_GAP_EM = 1.3
"""A gap wider than this (em) ends a region: cells of a table row and columns are read apart, as in SROIE's boxes."""

EM_TO_X = 2.1
"""Font size over x-height, the middle of the common text faces (1.9 to 2.3)."""

ASCENT_TO_X, DESCENT_TO_X = 1.85, 0.45
"""Font ascent and descent over x-height: a region's box reaches so far above and below the base line."""


@dataclass(frozen=True)
class LineRegion:
    """One line (or one cell of a row) on a prepared page, in its pixels.

    ``box``: ink extent in x, font ascent to descent in y. ``baseline`` is the y just below the letters,
    ``x_height`` the line's own. ``block`` numbers blocks in reading order. ``labels`` are the pieces of ink that
    belong to the line, ``foreign`` a shared table (per label, the line's number or -1) by which a crop can leave
    its neighbours out.
    """

    box: Box
    block: int
    baseline: float
    x_height: float
    number: int
    owner: npt.NDArray[np.int32] = field(repr=False, compare=False)
    components: Components = field(repr=False, compare=False)


def find_lines(prepared: PreparedPage) -> list[LineRegion]:
    """All lines of a page in reading order; [] for an empty page."""
    pieces = find_components(prepared.ink)
    if len(pieces.area) <= 1:
        return []
    x = prepared.x_height
    letters = _letters(pieces, x)
    group = _group(pieces, letters, x)
    owner = np.full(len(pieces.area), -1, np.int32)
    owner[letters] = group
    measured = [
        _measure(pieces, np.flatnonzero(owner == g), x) for g in range(int(group.max(initial=-1)) + 1)
    ]
    _attach(pieces, owner, measured, x)
    kept: list[tuple[int, Box, float, float]] = []
    for number, (baseline, own_x) in enumerate(measured):
        members = np.flatnonzero(owner == number)
        if not _is_text(pieces, members, own_x, x):
            owner[members] = -1
            continue
        box = (
            float(pieces.x0[members].min()),
            max(0.0, baseline - ASCENT_TO_X * own_x),
            float(pieces.x1[members].max()),
            min(float(prepared.grey.shape[0]), baseline + DESCENT_TO_X * own_x),
        )
        kept.append((number, box, baseline, own_x))
    order, blocks = reading_order([box for _, box, _, _ in kept], [own_x for _, _, _, own_x in kept])
    return [
        LineRegion(kept[i][1], block, kept[i][2], kept[i][3], kept[i][0], owner, pieces)
        for i, block in zip(order, blocks, strict=True)
    ]


def _letters(pieces: Components, x: float) -> npt.NDArray[np.intp]:
    """Labels of the pieces that can carry a line: neither specks and dots nor pictures and long strokes."""
    height, width = pieces.height, pieces.width
    right_size = (height >= 0.5 * x) & (height <= 9 * x) & (pieces.area >= 0.15 * x * x)
    dense_picture = (height > 5 * x) & (width > 5 * x) & (pieces.area > 0.5 * height * width)
    stroke = (width > 8 * np.maximum(height, 1)) & (height < 0.8 * x)
    return np.flatnonzero(right_size & ~dense_picture & ~stroke)


def _pairs(
    x0: npt.NDArray[np.int32], x1: npt.NDArray[np.int32], reach: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """All (i, j), i before j in the order of x0 (sorted), where j begins at most ``reach`` after i's end."""
    last = np.searchsorted(x0, x1 + reach, side="right")
    count = np.maximum(last - np.arange(len(x0)) - 1, 0)
    left = np.repeat(np.arange(len(x0)), count)
    start = np.cumsum(count) - count
    right = np.arange(len(left)) - np.repeat(start, count) + left + 1
    return left, right


def _group(pieces: Components, letters: npt.NDArray[np.intp], x: float) -> npt.NDArray[np.int32]:
    """Line number of each letter, -1 for pieces that bridge two lines."""
    if not len(letters):
        return np.empty(0, np.int32)
    order = np.argsort(pieces.x0[letters], kind="stable")
    ids = letters[order]
    x0, x1, y0, y1 = pieces.x0[ids], pieces.x1[ids], pieces.y0[ids], pieces.y1[ids]
    height = (y1 - y0).astype(np.float32)
    # Headings reach further than body text: first collect by the widest reach, then judge each pair by its size.
    tallest = float(np.percentile(height, 99))
    left, right = _pairs(x0, x1, SPLIT_GAP_EM * EM_TO_X * max(x, tallest / CAP_TO_X))
    overlap = np.minimum(y1[left], y1[right]) - np.maximum(y0[left], y0[right])
    near = overlap > 0
    left, right, overlap = left[near], right[near], overlap[near]
    low, high = np.minimum(height[left], height[right]), np.maximum(height[left], height[right])
    gap = x0[right] - x1[left]

    # A tall piece whose close neighbours lie one above the other joins two lines that touch.
    close = (gap < 0.5 * EM_TO_X * x) & (overlap >= 0.4 * low)
    top, bottom = np.full(len(ids), -1), np.full(len(ids), 1 << 30)
    for a, b in ((left[close], right[close]), (right[close], left[close])):
        normal = height[b] < 2.4 * x
        np.maximum.at(top, a[normal], y0[b[normal]])
        np.minimum.at(bottom, a[normal], y1[b[normal]])
    bridge = (height > 2.4 * x) & (bottom <= top)

    em = EM_TO_X * np.maximum(0.75 * x, low / CAP_TO_X)
    linked = (overlap >= 0.4 * low) & (high <= 2.6 * low) & (gap <= SPLIT_GAP_EM * em)
    linked &= ~bridge[left] & ~bridge[right]
    links = coo_array(
        (np.ones(np.count_nonzero(linked)), (left[linked], right[linked])), shape=(len(ids),) * 2
    )
    _, number = connected_components(links, directed=False)
    group = np.empty(len(ids), np.int32)
    number = np.where(bridge, -1, number)
    _, dense = np.unique(number[number >= 0], return_inverse=True)
    number[number >= 0] = dense
    group[order] = number
    return group


def _measure(pieces: Components, members: npt.NDArray[np.intp], page_x: float) -> tuple[float, float]:
    """(base line, x-height) of one line from its letters; the page's x-height decides where the line cannot."""
    y0, y1 = pieces.y0[members].astype(np.float64), pieces.y1[members].astype(np.float64)
    height = y1 - y0
    typical = float(np.median(height))
    solid = height >= 0.6 * typical
    # The base line is where most letters end; descenders and commas are the fewer.
    ends = np.sort(y1[solid])
    tolerance = max(1.0, 0.12 * typical)
    counts = np.searchsorted(ends, ends + tolerance, side="right") - np.arange(len(ends))
    first = int(np.argmax(counts))
    baseline = float(np.mean(ends[first : first + counts[first]]))
    rise = baseline - y0[solid]
    rise = rise[rise > 0.3 * typical]
    if not len(rise):
        return baseline, typical / CAP_TO_X
    low, high = float(np.percentile(rise, 20)), float(np.percentile(rise, 90))
    if high > 1.22 * low and high > low + 1.5:
        lower = rise[rise < (low + high) / 2]
        own = float(np.median(lower)) if len(lower) else low
        return baseline, max(own, high / 1.9)
    size = float(np.median(rise))
    descends = np.any((y1[solid] > baseline + 0.22 * size) & (height[solid] > 1.1 * size))
    if 0.85 * page_x <= size <= 1.15 * page_x or descends:
        return baseline, size
    return baseline, size / CAP_TO_X


def _attach(
    pieces: Components, owner: npt.NDArray[np.int32], measured: list[tuple[float, float]], page_x: float
) -> None:
    """Give dots, commas, accents and dashes to the line whose band they stand in (in place)."""
    if not measured:
        return
    count = len(measured)
    taken = np.flatnonzero(owner >= 0)
    x0, x1 = np.full(count, 1 << 30), np.full(count, -1)
    np.minimum.at(x0, owner[taken], pieces.x0[taken])
    np.maximum.at(x1, owner[taken], pieces.x1[taken])
    baseline, own_x = np.array(measured).T
    small = np.flatnonzero((owner < 0) & (pieces.area > 0) & (pieces.height < 1.2 * page_x))
    small = small[pieces.area[small] >= 2]
    if not len(small):
        return
    centre_x = ((pieces.x0[small] + pieces.x1[small]) / 2)[:, None]
    centre_y = ((pieces.y0[small] + pieces.y1[small]) / 2)[:, None]
    reach = 0.6 * EM_TO_X * own_x
    inside = (centre_x >= x0 - reach) & (centre_x <= x1 + reach)
    inside &= (centre_y >= baseline - ASCENT_TO_X * own_x) & (centre_y <= baseline + 0.6 * own_x)
    inside &= pieces.width[small][:, None] < 3.0 * own_x
    distance = np.where(inside, np.abs(centre_y - (baseline - 0.6 * own_x)), np.inf)
    nearest = np.argmin(distance, axis=1)
    found = np.isfinite(distance[np.arange(len(small)), nearest])
    owner[small[found]] = nearest[found]


def _is_text(pieces: Components, members: npt.NDArray[np.intp], own_x: float, page_x: float) -> bool:
    """Whether a group of pieces can be text: not specks, a bar code, or the grain of a picture."""
    height, width = pieces.height[members], pieces.width[members]
    area = int(pieces.area[members].sum())
    if area < 0.5 * page_x * page_x or height.max() < 0.7 * page_x:
        return False
    bars = (height > 2.5 * page_x) & (width < 0.2 * height)
    return not (len(members) >= 6 and np.mean(bars) > 0.5)
