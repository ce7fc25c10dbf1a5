"""Code blocks: rows whose characters are aligned to one grid (monospaced)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from multiway_document.markdown_layout.rows import EM_TO_X, Row
from multiway_document.rendering.markdown_tree import CodeBlock

_GRID_ERROR = 0.22  # of a character: how far words may stand off the grid
_SIGNS = re.compile(r"[{}()<>;=$#@\\/|&_\[\]*+]")


def grid(row: Row) -> tuple[float, float]:
    """(advance in pixels, largest error in characters) of the grid that fits the row's words best."""
    index, centres = [], []
    at = 0
    for word in row.words:
        index.append(at + len(word.text) / 2)
        centres.append((word.x0 + word.x1) / 2)
        at += len(word.text) + 1
    if len(index) < 3:
        return (row.x1 - row.x0) / max(0.5, len(row.text) - 0.15), np.inf
    slope, offset = np.polyfit(index, centres, 1)
    if slope <= 0:
        return 1.0, np.inf
    return float(slope), float(np.abs(np.polyval((slope, offset), index) - centres).max() / slope)


def body_advance(rows: Sequence[Row]) -> float | None:
    """The body's advance over its x-height where the body itself is monospaced, else None."""
    fits = [(grid(row), row.x_height) for row in rows if len(row.words) >= 5]
    if not fits:
        return None
    on_grid = [advance / x for (advance, error), x in fits if error < 0.3]
    return float(np.median(on_grid)) if len(on_grid) > 0.6 * len(fits) else None


def find_code(
    rows: Sequence[Row], free: Sequence[bool], follows_gap: Sequence[bool], body: Sequence[Row]
) -> list[tuple[int, int]]:
    """(first, end) of the runs of ``free`` rows that are code; a run begins where ``follows_gap`` or what is above
    is not free."""
    usual = body_advance(body)
    body_x = float(np.median([row.x_height for row in body])) if body else 1.0
    grids = [grid(row) for row in rows]

    def odd(i: int) -> bool:
        """Whether the row's grid is another than that of a monospaced body."""
        return usual is None or abs(grids[i][0] / (usual * body_x) - 1) > 0.05

    def sure(i: int) -> bool:
        signs = len(_SIGNS.findall(rows[i].text))
        words = len(rows[i].words)
        if not free[i] or not odd(i) or grids[i][1] > _GRID_ERROR:
            return False
        return usual is not None or words >= 5 or (words >= 4 and signs >= 1) or (words == 3 and signs >= 3)

    def signed(i: int) -> bool:
        signs = len(_SIGNS.findall(rows[i].text))
        return free[i] and odd(i) and signs >= 2 and signs > 0.06 * len(rows[i].text)

    def follows(i: int, seed: int, above: int, below: int) -> bool:
        """Whether row ``i`` goes on with the code block of ``seed`` across the step from above to below."""
        if not free[i] or rows[i].zone != rows[seed].zone:
            return False
        step = rows[below].baseline - rows[above].baseline
        if step > 1.75 * EM_TO_X * max(rows[i].x_height, 0.85 * body_x):
            return False
        # A sign that was not read shifts what follows it; a code block's even steps still tell.
        same_step = i != seed and abs(step / (1.25 * grids[seed][0] / 0.6) - 1) < 0.06
        advance = grids[seed][0]
        if same_step and abs(grids[i][0] / advance - 1) < 0.15:
            return True
        letters = len(rows[i].text)
        if abs(grids[i][0] / advance - 1) > 0.02 + 0.35 / letters:
            return False
        return grids[i][1] <= 0.35 or not np.isfinite(grids[i][1])

    runs: list[tuple[int, int]] = []
    taken = 0
    for i in range(len(rows)):
        if i < taken:
            continue
        pair = i + 1 < len(rows) and signed(i) and signed(i + 1) and follows(i + 1, i, i, i + 1)
        if not sure(i) and not pair:
            continue
        start, end = i, i + 1
        while start > taken and follows(start - 1, i, start - 1, start):
            start -= 1
        while end < len(rows) and follows(end, i, end - 1, end):
            end += 1
        signs = np.mean([bool(_SIGNS.search(row.text)) for row in rows[start:end]])
        apart = (
            start == 0 or follows_gap[start] or not free[start - 1] or follows_gap[min(start + 1, end - 1)]
        )
        if signs >= 0.5 and end - start > 1 and apart:
            runs.append((start, end))
            taken = end
    return runs


def to_code(rows: Sequence[Row]) -> CodeBlock:
    """The code block of a run of rows, indented as it is on the page."""
    advance = float(np.median([grid(row)[0] for row in rows]))
    left = min(row.x0 for row in rows)
    return CodeBlock([" " * round((row.x0 - left) / advance) + row.text for row in rows])
