"""Tables: consecutive rows with common vertical gaps between their words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from multiway_document.markdown_layout.rows import EM_TO_X, Row
from multiway_document.rendering.markdown_tree import Table

_CORRIDOR_EM = 0.7  # narrower white is a blank between words
_MAX_PITCH_EM = 2.6  # rows further apart are not of one table


def corridors(rows: Sequence[Row]) -> list[float]:
    """Middles (x) of the white corridors that run through all the rows, left to right."""
    em = EM_TO_X * float(np.median([row.x_height for row in rows]))
    blanks = [b.x0 - a.x1 for row in rows for cell in row.cells for a, b in pairwise(cell.words)]
    usual = float(np.median(blanks)) if len(blanks) > 2 else 0.0
    narrowest = max(_CORRIDOR_EM * em, 1.5 * min(usual, 0.9 * em))
    spans = sorted((word.x0, word.x1) for row in rows for word in row.words)
    found, reached = [], spans[0][1]
    for x0, x1 in spans[1:]:
        if x0 - reached >= narrowest:
            found.append((x0 + reached) / 2)
        reached = max(reached, x1)
    return found


def find_tables(rows: Sequence[Row], is_item: Sequence[bool], *, narrow: bool) -> list[tuple[int, int]]:
    """(first, end) of the runs of rows that are tables.

    On a ``narrow`` page (a receipt) rows of a name and an amount are lines, not tables: three columns are
    asked for there.
    """
    tables = []
    start = 0
    while start < len(rows):
        end = _run(rows, is_item, start)
        if end - start >= 2:
            columns = len(corridors(rows[start:end])) + 1
            cells = to_table(rows[start:end]).rows
            filled = np.mean([cell != "" for row in cells for cell in row])
            wordy = (
                max(np.mean([len(cell.split()) for cell in column]) for column in zip(*cells, strict=True))
                > 6
            )
            if (
                columns >= (3 if narrow else 2)
                and not wordy
                and filled > 0.65
                and (columns > 2 or end - start > 2)
            ):
                tables.append((start, end))
                start = end
                continue
        start += 1
    return tables


def _run(rows: Sequence[Row], is_item: Sequence[bool], start: int) -> int:
    """The end of the longest table that may begin at ``start``."""
    if is_item[start] or len(rows[start].words) < 2:
        return start + 1
    end = start + 1
    pitch: float | None = None
    edges = corridors(rows[start : start + 1])
    wide = int(len(rows[start].cells) > 1)
    best = start
    while end < len(rows) and not is_item[end] and rows[end].zone == rows[start].zone:
        row, above = rows[end], rows[end - 1]
        step = row.baseline - above.baseline
        if step > _MAX_PITCH_EM * EM_TO_X * row.x_height or (pitch and abs(step - pitch) > 0.22 * pitch):
            break
        kept = corridors(rows[start : end + 1])
        if not kept or len(kept) < len(edges) - 1:
            break
        pitch = pitch or step
        edges = kept
        wide += len(row.cells) > 1
        end += 1
        if wide >= 0.6 * (end - start) and wide >= 2:
            best = end
    return best


def to_table(rows: Sequence[Row]) -> Table:
    """The table of a run of rows, the first of which is its header."""
    edges = corridors(rows)
    cells = [[""] * (len(edges) + 1) for _ in rows]
    right, left = [[] for _ in range(len(edges) + 1)], [[] for _ in range(len(edges) + 1)]  # type: ignore[var-annotated]
    for line, row in zip(cells, rows, strict=True):
        for word in row.words:
            column = int(np.searchsorted(edges, (word.x0 + word.x1) / 2))
            line[column] = f"{line[column]} {word.text}".strip()
            left[column].append(word.x0)
            right[column].append(word.x1)
    aligned = frozenset(c for c in range(len(left)) if np.std(right[c]) < 0.5 * np.std(left[c]))
    return Table(cells, aligned)
