"""Lines of text on a prepared page, from the bottom up: pieces of ink -> neighbours -> lines."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from multiway_document.result import Box
from multiway_document.segmentation.columns import members_of, split_rows
from multiway_document.segmentation.components import CAP_TO_X, Components, find_components, soft_edge
from multiway_document.segmentation.marks import find_lone_marks
from multiway_document.segmentation.pictures import Pictures, captions_first, find_pictures, is_stray
from multiway_document.segmentation.preparation import PreparedPage
from multiway_document.segmentation.reading_order import reading_order

MAX_GAP_EM = 1.3
"""A gap of more font sizes always ends a region, so the cells of a table row and the columns of a page are read
apart, as in SROIE's boxes; narrower gaps are judged by :func:`split_rows`."""

SHORT, LONG, BESIDE = 3, 8, 8.0
"""So few letters take their measures from a line of so many letters, so many x-heights away at most."""

NO_LINE, NO_TEXT = -1, -2
"""Owners of pieces that are in no line: specks and rests that may belong to a letter; drawings and rules."""

MAX_GROUPS = 2000
"""More groups of letters than this are noise; a bound on time and memory."""

EM_TO_X = 2.1
"""Font size over x-height, the middle of the common text faces (1.9 to 2.3)."""

ASCENT_TO_X, DESCENT_TO_X = 1.85, 0.45
"""Font ascent and descent over x-height: a region's box reaches so far above and below the base line."""


@dataclass(frozen=True)
class LineRegion:
    """One line (or one cell of a row) on a prepared page, in its pixels.

    ``box``: ink extent in x, font ascent to descent in y. ``baseline`` is the y just below the letters,
    ``x_height`` the line's own. ``block`` numbers blocks in reading order. ``owner`` gives, for each of the page's
    ``components``, the ``number`` of the line that it belongs to, or ``NO_LINE`` or ``NO_TEXT``: what a crop needs to
    leave neighbours out. ``mark``: the line is one sign too small to be known for text, such as a dash in a cell.
    ``soft_edge``: pixels by which ``x_height`` and ``baseline`` (by half of it) include the letters' soft edges.
    """

    box: Box
    block: int
    baseline: float
    x_height: float
    number: int
    owner: npt.NDArray[np.int32] = field(repr=False, compare=False)
    components: Components = field(repr=False, compare=False)
    mark: bool = False
    soft_edge: float = 0.0


def find_lines(prepared: PreparedPage) -> list[LineRegion]:
    """All lines of a page in reading order; [] for an empty page."""
    pieces = find_components(prepared.ink)
    if len(pieces.area) <= 1:
        return []
    x = prepared.x_height
    pictures = find_pictures(pieces, x)
    letters = np.setdiff1d(_letters(pieces, x), pictures.strokes)
    owner = np.full(len(pieces.area), NO_LINE, np.int32)
    owner[letters] = _group(pieces, letters, x)
    _keep_largest(pieces, owner)
    dashes = _dashed_rules(pieces, x)
    owner[dashes] = NO_LINE
    measured = _measure_all(pieces, owner, x)
    _attach(pieces, owner, measured, x, ignored=np.union1d(dashes, pictures.strokes))
    _join(pieces, owner, measured)
    split_rows(
        pieces, owner, {n: EM_TO_X * own_x for n, (_, own_x) in _measure_all(pieces, owner, x).items()}
    )
    measured = _measure_all(pieces, owner, x)
    _size_short_lines(pieces, owner, measured)
    kept: dict[int, tuple[float, float]] = {}
    for number, members in members_of(owner):
        baseline, own_x = measured[number]
        if is_stray(pieces, members, baseline, x, pictures):
            owner[members] = NO_TEXT
        elif not _is_text(pieces, members, own_x, x):
            owner[members] = NO_LINE
        else:
            kept[number] = baseline, own_x
    owner[dashes] = NO_TEXT
    drawn = pictures.strokes[owner[pictures.strokes] < 0]
    owner[drawn] = NO_TEXT
    marks = find_lone_marks(pieces, owner, kept, x)
    kept |= marks
    return _regions(prepared, pieces, owner, kept, marks.keys(), pictures)


def _regions(
    prepared: PreparedPage,
    pieces: Components,
    owner: npt.NDArray[np.int32],
    kept: dict[int, tuple[float, float]],
    marks: Set[int],
    pictures: Pictures,
) -> list[LineRegion]:
    """The lines ``number: (base line, x-height)`` in reading order."""
    numbers, boxes = [], []
    for number, members in members_of(owner):
        baseline, own_x = kept[number]
        numbers.append(number)
        boxes.append((
            float(pieces.x0[members].min()),
            max(0.0, baseline - ASCENT_TO_X * own_x),
            float(pieces.x1[members].max()),
            min(float(prepared.grey.shape[0]), baseline + DESCENT_TO_X * own_x),
        ))  # fmt: skip
    places = captions_first(boxes, pictures)
    order, blocks = reading_order(places, [kept[number][1] for number in numbers])
    letters = np.flatnonzero((owner >= 0) & (pieces.height > 0.7 * prepared.x_height))
    edge = min(soft_edge(prepared.grey, pieces, letters), 0.3 * prepared.x_height)
    return [
        LineRegion(boxes[i], block, *kept[numbers[i]], numbers[i], owner, pieces, numbers[i] in marks, edge)
        for i, block in zip(order, blocks, strict=True)
    ]


def _keep_largest(pieces: Components, owner: npt.NDArray[np.int32]) -> None:
    """Leave out the groups with least ink where there are more than any page has lines, as in noise (in
    place)."""
    lines = members_of(owner)
    if len(lines) > MAX_GROUPS:
        ink = [int(pieces.area[members].sum()) for _, members in lines]
        for i in np.argsort(ink)[:-MAX_GROUPS]:
            owner[lines[i][1]] = -1


def _letters(pieces: Components, x: float) -> npt.NDArray[np.intp]:
    """Labels of the pieces that can carry a line: neither specks and dots nor pictures and long strokes."""
    height, width = pieces.height, pieces.width
    right_size = (height >= 0.5 * x) & (height <= 9 * x) & (pieces.area >= 0.15 * x * x)
    dense_picture = (height > 5 * x) & (width > 5 * x) & (pieces.area > 0.5 * height * width)
    circle = (height > 3.5 * x) & (width > 3.5 * x) & (pieces.area < 0.12 * height * width)
    stroke = (width > 8 * np.maximum(height, 1)) & (height < 0.8 * x)
    page_height, page_width = pieces.labels.shape
    at_edge = (
        (pieces.x0 <= 1) | (pieces.y0 <= 1) | (pieces.x1 >= page_width - 1) | (pieces.y1 >= page_height - 1)
    )
    edge_shadow = at_edge & ((height > 2.4 * x) | (width > 6 * x))
    return np.flatnonzero(right_size & ~dense_picture & ~stroke & ~circle & ~edge_shadow)


def _dashed_rules(pieces: Components, x: float) -> npt.NDArray[np.intp]:
    """Labels of the thin pieces that stand in long rows: dashed and dotted rules, leaders, rests of drawn
    rules."""
    thin = np.flatnonzero((pieces.area > 0) & (pieces.height < 0.45 * x) & (pieces.width < 30 * x))
    if len(thin) < 5:
        return thin[:0]
    x0, x1, y0, y1 = pieces.x0[thin], pieces.x1[thin], pieces.y0[thin], pieces.y1[thin]
    left, right = _pairs(pieces, thin, 1.6 * x, 4 * x)
    level = np.minimum(y1[left], y1[right]) - np.maximum(y0[left], y0[right]) >= -0.1 * x
    number = _connect(left[level], right[level], len(thin))
    count = np.bincount(number)
    start, end = np.full(len(count), 1 << 30), np.zeros(len(count), np.int64)
    np.minimum.at(start, number, x0)
    np.maximum.at(end, number, x1)
    ruled = (end - start > 9 * x) & (count >= 4) | (end - start > 14 * x)
    short = np.flatnonzero(~ruled & (count >= 4) & (end - start > 2.2 * x))
    for row in short:  # over an amount, say: dashes, not dots, with letters right above or below
        members = thin[number == row]
        flat = np.mean(pieces.width[members] >= 1.6 * pieces.height[members]) > 0.7
        ruled[row] = flat and _stands_on_letters(pieces, members, x)
    return thin[ruled[number]]


def _stands_on_letters(pieces: Components, members: npt.NDArray[np.intp], x: float) -> bool:
    """Whether most of a row of dashes has letters within an x-height of it, all above or all below."""
    x0, x1 = pieces.x0[members], pieces.x1[members]
    top, bottom = int(pieces.y0[members].min()), int(pieces.y1[members].max())
    letters = (pieces.height > 0.7 * x) & (pieces.height < 3 * x) & (pieces.area > 0)
    for near in (
        letters & (pieces.y0 >= bottom - 1) & (pieces.y0 < bottom + x),
        letters & (pieces.y1 <= top + 1) & (pieces.y1 > top - x),
    ):
        over = np.flatnonzero(near)
        shared = np.minimum(pieces.x1[over], x1[:, None]) - np.maximum(pieces.x0[over], x0[:, None])
        if len(over) and np.mean((shared > 0).any(axis=1)) > 0.5:
            return True
    return False


def _connect(left: npt.NDArray[np.intp], right: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.int32]:
    """Number of the connected group of each of ``count`` things, given linked pairs."""
    # SciPy has this too, but takes longer to import than a page takes here.
    smallest = np.arange(count)
    while True:
        before = smallest.copy()
        for one, other in ((left, right), (right, left)):
            np.minimum.at(smallest, smallest[one], smallest[other])
        smallest = smallest[smallest]
        if np.array_equal(smallest, before):
            return np.unique(smallest, return_inverse=True)[1].astype(np.int32)


def _pairs(
    pieces: Components, ids: npt.NDArray[np.intp], reach: float, stripe: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Positions (i, j) in ``ids`` of neighbours: j begins right of i's left edge, at most ``reach`` after i's
    end.

    Only pieces that share a horizontal stripe of the page (``stripe`` pixels high) are compared, so the
    number of pairs grows with the text on the page and not with its square; a pair may come more than once.
    """
    first, last = (pieces.y0[ids] / stripe).astype(np.int64), ((pieces.y1[ids] - 1) / stripe).astype(np.int64)
    count = last - first + 1
    position = np.repeat(np.arange(len(ids)), count)
    row = np.arange(len(position)) - np.repeat(np.cumsum(count) - count, count) + first[position]
    span = pieces.labels.shape[1] + int(reach) + 2
    key = row * span + pieces.x0[ids][position]
    order = np.argsort(key, kind="stable")
    position, row, key = position[order], row[order], key[order]
    end = np.searchsorted(key, row * span + pieces.x1[ids][position] + int(reach), side="right")
    number = np.maximum(end - np.arange(len(key)) - 1, 0)
    left = np.repeat(np.arange(len(key)), number)
    right = np.arange(len(left)) - np.repeat(np.cumsum(number) - number, number) + left + 1
    return position[left], position[right]


def _group(pieces: Components, letters: npt.NDArray[np.intp], x: float) -> npt.NDArray[np.int32]:
    """Line number of each letter, -1 for pieces that bridge two lines."""
    if not len(letters):
        return np.empty(0, np.int32)
    x0, x1, y0, y1 = pieces.x0[letters], pieces.x1[letters], pieces.y0[letters], pieces.y1[letters]
    height = (y1 - y0).astype(np.float32)
    # Headings reach further than body text: first collect by the widest reach, then judge each pair by its
    # size.
    tallest = float(np.percentile(height, 99))
    reach = MAX_GAP_EM * EM_TO_X * max(x, tallest / CAP_TO_X)
    left, right = _pairs(pieces, letters, reach, 4 * x)
    overlap = np.minimum(y1[left], y1[right]) - np.maximum(y0[left], y0[right])
    near = overlap > 0
    left, right, overlap = left[near], right[near], overlap[near]
    low, high = np.minimum(height[left], height[right]), np.maximum(height[left], height[right])
    gap = x0[right] - x1[left]

    # A tall piece whose close neighbours lie one above the other joins two lines that touch.
    close = (gap < 0.5 * EM_TO_X * x) & (overlap >= 0.4 * low)
    top, bottom = np.full(len(letters), -1), np.full(len(letters), 1 << 30)
    for a, b in ((left[close], right[close]), (right[close], left[close])):
        normal = height[b] < 2.4 * x
        np.maximum.at(top, a[normal], y0[b[normal]])
        np.minimum.at(bottom, a[normal], y1[b[normal]])
    bridge = (height > 2.4 * x) & (bottom <= top)

    em = EM_TO_X * np.maximum(np.minimum(x, high), high / CAP_TO_X)
    linked = (overlap >= 0.4 * low) & (high <= 2.6 * low) & (gap <= MAX_GAP_EM * em)
    linked &= ~bridge[left] & ~bridge[right]
    number = _connect(left[linked], right[linked], len(letters))
    stacked = _stacked(number, x0, y0, x1, y1, x)
    if stacked.any():
        # A stroke between two lines overlaps both, but its middle is in neither.
        apart = np.abs((y0 + y1)[left] - (y0 + y1)[right]) > 1.5 * x
        linked &= ~(apart & stacked[number[left]])
        number = _connect(left[linked], right[linked], len(letters))
    return np.where(bridge, NO_LINE, number)


def _stacked(
    number: npt.NDArray[np.int32],
    x0: npt.NDArray[np.int32],
    y0: npt.NDArray[np.int32],
    x1: npt.NDArray[np.int32],
    y1: npt.NDArray[np.int32],
    x: float,
) -> npt.NDArray[np.bool_]:
    """For each group number, whether it holds more than one line: a quarter of its letters have others right below."""
    height = y1 - y0
    body = np.flatnonzero((height > 0.6 * x) & (height < 2.0 * x))
    result = np.zeros(int(number.max(initial=0)) + 1, bool)
    top, bottom = np.full(len(result), 1 << 30), np.full(len(result), -1)
    np.minimum.at(top, number[body], y0[body])
    np.maximum.at(bottom, number[body], y1[body])
    for group in np.flatnonzero(bottom - top > 3.2 * x):
        members = body[number[body] == group]
        a, b = x0[members], x1[members]
        below = y0[members] >= y1[members][:, None] - 0.1 * x
        below &= (a < b[:, None]) & (b > a[:, None])
        result[group] = np.count_nonzero(below.any(axis=1)) > 0.25 * len(members)
    return result


def _measure_all(
    pieces: Components, owner: npt.NDArray[np.int32], page_x: float
) -> dict[int, tuple[float, float]]:
    """(base line, x-height) of every line by its number.

    Lines with both small and tall letters show their x-height. The others are all of one height: small
    letters if that is the x-height of the page's mixed lines, else capitals or digits.
    """
    lines = members_of(owner)
    measures = [_measure(pieces, members) for _, members in lines]
    letters = sum(len(members) for _, members in lines)
    mixed = [x for (_, _, x), (_, members) in zip(measures, lines, strict=True) if x for _ in members]
    if len(mixed) > 0.1 * letters:
        page_x = float(np.median(mixed))
    return {
        number: (baseline, own_x or (size if abs(size - page_x) <= 0.08 * page_x else size / CAP_TO_X))
        for (number, _), (baseline, size, own_x) in zip(lines, measures, strict=True)
    }


def _measure(pieces: Components, members: npt.NDArray[np.intp]) -> tuple[float, float, float | None]:
    """(base line, commonest letter height, x-height or None where the letters have one height) of one
    line."""
    y0, y1 = pieces.y0[members].astype(np.float64), pieces.y1[members].astype(np.float64)
    height = y1 - y0
    typical = float(np.median(height[height >= 0.5 * height.max()]))
    solid = height >= 0.6 * typical
    # The base line is where most letters end; descenders and commas are the fewer.
    ends = np.sort(y1[solid])
    tolerance = max(1.0, 0.12 * typical)
    counts = np.searchsorted(ends, ends + tolerance, side="right") - np.arange(len(ends))
    first = int(np.argmax(counts))
    baseline = float(np.mean(ends[first : first + counts[first]]))
    rise = baseline - y0[solid]
    letters = rise > 0.3 * typical
    if not letters.any():
        return baseline, typical, None
    low, high = float(np.percentile(rise[letters], 20)), float(np.percentile(rise[letters], 90))
    if high > 1.22 * low and high > low + 1.5:
        lower = rise[letters & (rise < (low + high) / 2)]
        return baseline, high, max(float(np.median(lower)) if len(lower) else low, high / 1.9)
    size = float(np.median(rise[letters]))
    # p, q, g and y begin where the small letters do; brackets, $ and @ begin higher.
    descends = np.any((y1[solid] > baseline + 0.22 * size) & (rise < 1.1 * size))
    return baseline, size, size if descends else None


def _size_short_lines(
    pieces: Components, owner: npt.NDArray[np.int32], measured: dict[int, tuple[float, float]]
) -> None:
    """Give a group of up to ``SHORT`` letters the measures of the longer line beside it (in place).

    Of one or two signs the size cannot be told: the old-style figures of a list's number look like small letters, and
    a bracket reaches below the base line. The group has to stand within the line's band.
    """
    lines = members_of(owner)
    if len(lines) < 2:
        return
    numbers = np.array([number for number, _ in lines], np.int32)
    baseline, own_x = np.array([measured[int(n)] for n in numbers]).T
    x0, x1 = _extents(pieces, owner, numbers)
    count = np.zeros(len(lines), np.int64)
    for k, (_, members) in enumerate(lines):
        count[k] = np.count_nonzero(pieces.height[members] > 0.6 * own_x[k])
    for k in np.flatnonzero(count <= SHORT).tolist():
        members = lines[k][1]
        top, bottom = int(pieces.y0[members].min()), int(pieces.y1[members].max())
        beside = (count >= LONG) & (top >= baseline - 1.75 * own_x) & (bottom <= baseline + 0.6 * own_x)
        beside &= bottom - top >= 0.6 * own_x
        gap = np.maximum(x0 - x1[k], x0[k] - x1)
        beside &= (gap > 0) & (gap < BESIDE * own_x) & (bottom >= baseline - 0.2 * own_x)
        if beside.any():
            nearest = int(np.argmin(np.where(beside, gap, np.inf)))
            measured[lines[k][0]] = float(baseline[nearest]), float(own_x[nearest])


def _extents(
    pieces: Components, owner: npt.NDArray[np.int32], numbers: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """x0 and x1 of the ink of each of the (sorted) line numbers."""
    taken = np.flatnonzero(owner >= 0)
    row = np.searchsorted(numbers, owner[taken])
    x0, x1 = np.full(len(numbers), 1 << 30), np.full(len(numbers), -1)
    np.minimum.at(x0, row, pieces.x0[taken])
    np.maximum.at(x1, row, pieces.x1[taken])
    return x0, x1


def _join(pieces: Components, owner: npt.NDArray[np.int32], measured: dict[int, tuple[float, float]]) -> None:
    """Make one line of neighbours on one base line, now that dashes and dots are in the gaps, and of parts of
    letters that stand inside another line's band (in place)."""
    if len(measured) < 2:
        return
    numbers = np.array(sorted(measured), np.int32)
    baseline, own_x = np.array([measured[int(n)] for n in numbers]).T
    x0, x1 = _extents(pieces, owner, numbers)
    big_x = np.maximum(own_x[:, None], own_x)
    gap = np.maximum(x0[:, None], x0) - np.minimum(x1[:, None], x1)
    same = np.abs(baseline[:, None] - baseline) < 0.35 * big_x
    same &= big_x < 1.7 * np.minimum(own_x[:, None], own_x)
    same &= gap <= MAX_GAP_EM * EM_TO_X * big_x
    # Inside: the smaller line's body lies between the other's ascent and descent, and it begins and ends
    # within.
    inside = (baseline - own_x)[:, None] >= (baseline - ASCENT_TO_X * own_x)
    inside &= baseline[:, None] <= baseline + (DESCENT_TO_X + 0.1) * own_x
    inside &= (x0[:, None] >= x0 - 0.3 * own_x) & (x1[:, None] <= x1 + 0.3 * own_x)
    inside &= (own_x[:, None] < 0.8 * own_x) | same
    left, right = np.nonzero(np.triu(same | inside | inside.T, 1))
    if not len(left):
        return
    joined = _connect(left, right, len(numbers))
    taken = owner >= 0
    owner[taken] = joined[np.searchsorted(numbers, owner[taken])]


def _attach(
    pieces: Components,
    owner: npt.NDArray[np.int32],
    measured: dict[int, tuple[float, float]],
    page_x: float,
    ignored: npt.NDArray[np.intp],
) -> None:
    """Give dots, commas, accents and dashes to the line whose band they stand in (in place)."""
    if not measured:
        return
    numbers = np.array(sorted(measured), np.int32)
    x0, x1 = _extents(pieces, owner, numbers)
    baseline, own_x = np.array([measured[int(n)] for n in numbers]).T
    free = (owner < 0) & (pieces.area > 0) & (pieces.height < 1.2 * page_x)
    free[ignored] = False
    small = np.flatnonzero(free)
    small = small[pieces.area[small] >= 2]
    if not len(small):
        return
    centre_x = ((pieces.x0[small] + pieces.x1[small]) / 2)[:, None]
    centre_y = ((pieces.y0[small] + pieces.y1[small]) / 2)[:, None]
    # Half of the widest white around lone signs: == between two blanks of a monospaced face.
    reach = 1.05 * EM_TO_X * own_x
    inside = (centre_x >= x0 - reach) & (centre_x <= x1 + reach)
    inside &= (centre_y >= baseline - ASCENT_TO_X * own_x) & (centre_y <= baseline + 0.6 * own_x)
    inside &= pieces.width[small][:, None] < 3.0 * own_x
    distance = np.where(inside, np.abs(centre_y - (baseline - 0.6 * own_x)), np.inf)
    nearest = np.argmin(distance, axis=1)
    found = np.isfinite(distance[np.arange(len(small)), nearest])
    owner[small[found]] = numbers[nearest[found]]


def _is_text(pieces: Components, members: npt.NDArray[np.intp], own_x: float, page_x: float) -> bool:
    """Whether a group of pieces can be text: not specks, a bar code, or the grain of a picture."""
    height, width = pieces.height[members], pieces.width[members]
    area = int(pieces.area[members].sum())
    if area < 0.3 * page_x * page_x or height.max() < 0.7 * page_x:
        return False
    bars = (height > 2.5 * page_x) & (width < 0.2 * height)
    return not (len(members) >= 6 and np.mean(bars) > 0.5)
