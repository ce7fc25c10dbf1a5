"""Headings: rows set larger, or bolder, than the body, and their levels by their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np

from multiway_document.markdown_layout.rows import Row

LARGER = 1.12
_MAX_ROWS = 4  # more rows of one size in a row are a text, not a heading
_TYPICAL = (1.85, 1.5, 1.22)
"""Size of each level over the body, in the middle of what documents use."""


def find_headings(
    rows: Sequence[Row], body: float, follows_gap: Sequence[bool], *, narrow: bool
) -> list[int]:
    """The level, 1 to 3, of each row that is (part of) a heading; 0 for the others.

    ``body`` is the body's x-height; ``follows_gap`` says whether there is more than the usual white above.
    """
    larger = [row.x_height / body > LARGER and row.widest_gap < 1.7 and _is_worded(row.text) for row in rows]
    larger = _drop_long_runs(rows, larger)
    bold = [_is_bold_title(rows, i, follows_gap) and not narrow for i in range(len(rows))]
    candidates = [i for i in range(len(rows)) if larger[i] or bold[i]]
    if not candidates:
        return [0] * len(rows)
    sizes = np.array([rows[i].x_height / body for i in candidates])
    groups = _clusters(sizes)
    levels = _levels([float(np.median(sizes[group])) for group in groups])
    result = [0] * len(rows)
    for group, level in zip(groups, levels, strict=True):
        for k in group:
            result[candidates[k]] = level
    return result


def _is_worded(text: str) -> bool:
    """Whether there are words; strokes of a drawing are read as signs and single letters."""
    signs = text.replace(" ", "")
    return sum(map(str.isalnum, signs)) >= max(3, 0.6 * len(signs))


def _drop_long_runs(rows: Sequence[Row], larger: list[bool]) -> list[bool]:
    kept = list(larger)
    start = 0
    for i in range(1, len(rows) + 1):
        same = i < len(rows) and larger[i] and larger[start]
        if not (same and 0.93 < rows[i].x_height / rows[i - 1].x_height < 1.07):
            if i - start > _MAX_ROWS:
                kept[start:i] = [False] * (i - start)
            start = i
    return kept


def _is_bold_title(rows: Sequence[Row], i: int, follows_gap: Sequence[bool]) -> bool:
    """A single bold line of its own, not a sentence."""
    row = rows[i]
    bold = sum(len(word.text) for word in row.words if word.style in ("bold", "bold_italic"))
    alone = follows_gap[i] and (i + 1 == len(rows) or follows_gap[i + 1])
    short = row.x1 - row.x0 < 0.8 * (row.right - row.left)
    return (
        alone and short and len(row.cells) == 1 and bold > 0.85 * len(row.text.replace(" ", ""))
        and any(map(str.isalpha, row.text)) and not row.text.endswith((".", ",", ";"))
    )  # fmt: skip


def _clusters(sizes: np.ndarray) -> list[list[int]]:
    """Positions of alike sizes, largest size first, three clusters at most."""
    order = np.argsort(-sizes)
    groups: list[list[int]] = []
    for k in order.tolist():
        if groups and np.median(sizes[groups[-1]]) / sizes[k] < 1.08:
            groups[-1].append(k)
        else:
            groups.append([k])
    while len(groups) > 3:
        ratios = [np.median(sizes[a]) / np.median(sizes[b]) for a, b in pairwise(groups)]
        at = int(np.argmin(ratios))
        groups[at : at + 2] = [groups[at] + groups[at + 1]]
    return groups


def _levels(sizes: Sequence[float]) -> tuple[int, ...]:
    """Increasing levels whose typical sizes, all stretched alike, fit the sizes best."""
    best: tuple[float, tuple[int, ...]] | None = None
    for levels in combinations((1, 2, 3), len(sizes)):
        for top in np.linspace(1.5, 2.2, 8):
            expected = (top, 1 + 0.6 * (top - 1), 1 + 0.25 * (top - 1))
            error = sum(
                (np.log(size / expected[level - 1])) ** 2 for size, level in zip(sizes, levels, strict=True)
            )
            error += 0.02 * np.log(top / _TYPICAL[0]) ** 2
            if best is None or error < best[0]:
                best = float(error), levels
    assert best is not None
    return best[1]
