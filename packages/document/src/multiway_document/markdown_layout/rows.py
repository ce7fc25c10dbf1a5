"""Regions with their texts -> words with places -> rows of a page, which is what the rules of layout look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from multiway_document.rendering.markdown_tree import Style
from multiway_document.segmentation import LineRegion

EM_TO_X = 2.1
"""Font size over x-height, the middle of the common text faces."""

CAP_TO_X = 1.42
"""Height of capitals and digits over the x-height."""

_SMALL = frozenset("acemnorsuvwxzgpqy")


@dataclass
class PlacedWord:
    """A word with the x extent of its ink (pixels of the prepared page) and the style it is set in."""

    text: str
    x0: float
    x1: float
    style: Style = "regular"


@dataclass
class Cell:
    """One region and its words."""

    region: LineRegion
    words: list[PlacedWord]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def x_height(self) -> float:
        """The region's x-height; from the height of its capitals and digits where the text has little else."""
        signs = [sign for sign in self.text if sign.isalnum()]
        small = sum(sign in _SMALL for sign in signs)
        if not signs or small >= 0.3 * len(signs):
            return self.region.x_height
        members = self.region.owner == self.region.number
        heights = self.region.components.height[members]
        return float(np.median(heights[heights > 0.6 * heights.max()])) / CAP_TO_X


@dataclass(eq=False)
class Row:
    """The regions side by side on one base line, left to right; lengths are pixels of the prepared page.

    ``mark`` is the x of a bullet drawn left of the row that is in no region (dots are too small to be lines).
    """

    cells: list[Cell]
    mark: float | None = None
    zone: int = 0
    left: float = 0.0
    right: float = 0.0
    words: list[PlacedWord] = field(init=False)

    def __post_init__(self) -> None:
        self.words = [word for cell in self.cells for word in cell.words]
        # Short cells of digits or capitals give their x-height away badly: most letters decide.
        sizes = np.repeat([cell.x_height for cell in self.cells], [len(cell.text) for cell in self.cells])
        self.x_height = float(np.median(sizes))
        self.baseline = float(np.median([cell.region.baseline for cell in self.cells]))

    @property
    def widest_gap(self) -> float:
        """The widest white between two regions of the row, in font sizes; 0 for a single one."""
        pairs = zip(self.cells, self.cells[1:], strict=False)
        gaps = [right.region.box[0] - left.region.box[2] for left, right in pairs]
        return max(gaps, default=0.0) / (EM_TO_X * self.x_height)

    @property
    def x0(self) -> float:
        return self.words[0].x0

    @property
    def x1(self) -> float:
        return self.words[-1].x1

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def place_words(region: LineRegion, text: str) -> list[PlacedWord]:
    """The words of a region with their extents: the widest gaps of its ink are its blanks."""
    texts = text.split()
    members = np.flatnonzero(region.owner == region.number)
    x0, x1 = region.components.x0[members], region.components.x1[members]
    order = np.argsort(x0, kind="stable")
    x0, end = x0[order], np.maximum.accumulate(x1[order])
    gaps = x0[1:] - end[:-1]
    if len(texts) > 1 and np.count_nonzero(gaps > 0) >= len(texts) - 1:
        cuts = np.sort(np.argsort(-gaps, kind="stable")[: len(texts) - 1])
        starts, ends = x0[np.concatenate([[0], cuts + 1])], end[np.concatenate([cuts, [len(end) - 1]])]
        return [PlacedWord(word, float(a), float(b)) for word, a, b in zip(texts, starts, ends, strict=True)]
    # Fewer gaps than blanks (touching letters): share the width out by the number of characters.
    left, _, right, _ = region.box
    advance = (right - left) / max(1, len(" ".join(texts)))
    words, pen = [], left
    for word in texts:
        words.append(PlacedWord(word, pen, pen + advance * len(word)))
        pen += advance * (len(word) + 1)
    return words


def make_rows(regions: Sequence[LineRegion], texts: Sequence[str]) -> list[Row]:
    """Rows in reading order; regions without text are left out."""
    groups: list[list[Cell]] = []
    for region, text in zip(regions, texts, strict=True):
        words = place_words(region, text)
        if not words:
            continue
        cell = Cell(region, words)
        if groups and _beside(groups[-1], cell):
            groups[-1].append(cell)
        else:
            groups.append([cell])
    if not groups:
        return []
    rows = [Row(group) for group in groups]
    _set_zones(rows)
    _move_footers(rows)
    return rows


def _beside(group: Sequence[Cell], cell: Cell) -> bool:
    last, this = group[-1].region, cell.region
    if this.box[0] < last.box[2] - this.x_height:
        return False
    # A new column starts a new block further up or on the same height; cells of a row share their block.
    if this.block != last.block:
        return False
    return abs(this.baseline - last.baseline) < 0.7 * max(this.x_height, last.x_height)


def _set_zones(rows: Sequence[Row]) -> None:
    """Number the columns of the page and give each row its column's left and right edges (in place)."""
    zone = 0
    rows[0].zone = zone
    for previous, row in pairwise(rows):
        zone += row.baseline < previous.baseline + 0.5 * row.x_height  # reading went back up the page
        row.zone = zone
    for number in range(zone + 1):
        members = [row for row in rows if row.zone == number]
        x = float(np.median([row.x_height for row in members]))
        starts = np.sort([row.x0 for row in members])
        # A page number may stand further out than the text: an edge is where several lines begin.
        shared = np.searchsorted(starts, starts + 0.8 * x, side="right") - np.arange(len(starts))
        edges = starts[shared >= max(1, min(3, len(members) // 8))]
        left = float(edges[0] if len(edges) else starts[0])
        ends = np.sort([row.x1 for row in members])
        right = float(ends[-1] if len(ends) < 8 else np.quantile(ends, 0.9))
        for row in members:
            row.left, row.right = left, right


def _move_footers(rows: list[Row]) -> None:
    """Put lines far below a column that is not the last, such as page numbers, at the end (in place)."""
    lowest = max(row.baseline for row in rows if row.zone == rows[-1].zone)
    footers = [
        row
        for above, row, below in zip(rows, rows[1:], rows[2:], strict=False)
        if above.zone == row.zone != below.zone
        and row.baseline - above.baseline > 3.2 * EM_TO_X * row.x_height
        and row.baseline > lowest + 1.5 * EM_TO_X * row.x_height
    ]
    for row in footers:
        rows.remove(row)
        rows.append(row)
    if footers:
        _set_zones(rows)


def find_marks(rows: Sequence[Row]) -> None:
    """Look for a bullet in the white left of each row and note its place (in place)."""
    if not rows:
        return
    pieces = rows[0].cells[0].region.components
    owner = rows[0].cells[0].region.owner
    free = np.flatnonzero((owner < 0) & (pieces.area >= 2))
    x0, x1, y0, y1 = pieces.x0[free], pieces.x1[free], pieces.y0[free], pieces.y1[free]
    height, width = y1 - y0, x1 - x0
    for row in rows:
        x = row.x_height
        gap = row.x0 - x1
        # Nothing else may stand near it, or strokes of a picture beside the text would be taken for bullets.
        inside = (gap > 0.4 * x) & (gap < 9.0 * x) & (y1 <= row.baseline + 0.15 * x)
        inside &= (y0 >= row.baseline - 1.5 * x) & (height < 1.1 * x) & (width < 1.4 * x)
        found = np.flatnonzero(inside)
        if len(found) == 1 and gap[found[0]] < 3.6 * x:
            row.mark = float(x0[found[0]])
