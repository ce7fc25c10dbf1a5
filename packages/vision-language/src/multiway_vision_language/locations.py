"""The location grid: boxes <-> pairs of cells (arXiv 2306.14824, section 2; rules of the published code).

A picture is cut into ``size * size`` cells, numbered by rows. A box is two cells: its upper left and its lower right.
Boxes are (left, top, right, bottom) as fractions of the picture, right and bottom outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from multiway_core.errors import InputError

NormalBox = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of width and height."""
Cells = tuple[int, int]
"""Upper left and lower right cell."""
Edge = Literal["half_open", "legacy"]


@dataclass(frozen=True)
class LocationGrid:
    """``size`` cells a side."""

    size: int = 32

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a location grid has at least 1 cell a side, not {self.size}")

    @property
    def num_cells(self) -> int:
        """Cells, which is also the number of location tokens."""
        return self.size**2

    def encode(self, box: Sequence[float], *, edge: Edge = "half_open") -> Cells:
        """The cells of the corners of a box, which is clipped to the picture.

        ``edge`` says where a right or bottom side goes that lies exactly between two cells: "half_open" to the cell
        before it, as in `transformers`; "legacy" to the one behind it, as in the authors' training code.
        Raises :class:`InputError` for a box that is not finite, has no area, or lies outside the picture.
        """
        left, top, right, bottom = self._clipped(box)
        if edge == "legacy":
            last_column, last_row = (math.floor(min(end, 0.99999) * self.size) for end in (right, bottom))
        else:
            last_column, last_row = (math.ceil(end * self.size - 1) for end in (right, bottom))
        column, row = (min(math.floor(start * self.size), self.size - 1) for start in (left, top))
        return row * self.size + column, max(last_row, row) * self.size + max(last_column, column)

    def decode(self, cells: Cells) -> NormalBox:
        """The box of two cells: from centre to centre, or from edge to edge if they share a row or a column.

        Raises :class:`InputError` for a cell outside the grid.
        """
        upper_left, lower_right = cells
        for cell in cells:
            if not 0 <= cell < self.num_cells:
                raise InputError(f"location {cell} is outside the grid: expected 0 to {self.num_cells - 1}")
        row, column = divmod(upper_left, self.size)
        last_row, last_column = divmod(lower_right, self.size)
        step = 1.0 / self.size
        if row == last_row or column == last_column:
            return column * step, row * step, last_column * step + step, last_row * step + step
        half = step / 2
        return column * step + half, row * step + half, last_column * step + half, last_row * step + half

    def in_order(self, cells: Cells) -> bool:
        """Whether the second cell is neither above nor left of the first."""
        (row, column), (last_row, last_column) = (divmod(cell, self.size) for cell in cells)
        return last_row >= row and last_column >= column

    def ordered(self, cells: Cells) -> Cells:
        """The cells of the same rectangle with the upper left one first."""
        (row, column), (last_row, last_column) = (divmod(cell, self.size) for cell in cells)
        (row, last_row), (column, last_column) = sorted((row, last_row)), sorted((column, last_column))
        return row * self.size + column, last_row * self.size + last_column

    @staticmethod
    def _clipped(box: Sequence[float]) -> NormalBox:
        if len(box) != 4 or not all(math.isfinite(number) for number in box):
            raise InputError(
                f"{tuple(box)} is not a box: expected four finite numbers left, top, right, bottom"
            )
        left, top, right, bottom = (float(number) for number in box)
        if right <= left or bottom <= top:
            raise InputError(
                f"the box {(left, top, right, bottom)} has no area: right must be above left, bottom above top"
            )
        left, top, right, bottom = (min(max(number, 0.0), 1.0) for number in (left, top, right, bottom))
        if right <= left or bottom <= top:
            raise InputError("the box lies outside the picture")
        return left, top, right, bottom
