"""Cuts a row of text into cells or columns; a wide space behind a sentence is no cut."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from multiway_document.segmentation.components import Components

SPLIT_GAP_EM, SPLIT_GAP_RATIO = 0.8, 2.0
"""A gap may end a region when it is wider than so many font sizes and than so many of the row's usual word
gaps."""

PROSE_WORDS = 7
"""A row of so many words, at most a third of its gaps wide, with an edge in line with a neighbour's, is prose."""

CORRIDOR_EM = 0.6
"""Width of the white that a wide gap in prose must share with rows above or below to part two columns."""


def members_of(owner: npt.NDArray[np.int32]) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """Each line's number with the labels of its pieces."""
    taken = np.flatnonzero(owner >= 0)
    taken = taken[np.argsort(owner[taken], kind="stable")]
    numbers, starts = np.unique(owner[taken], return_index=True)
    return list(zip(numbers.tolist(), np.split(taken, starts[1:]), strict=True)) if len(taken) else []


def split_rows(pieces: Components, owner: npt.NDArray[np.int32], em_sizes: dict[int, float]) -> None:
    """Cut rows at gaps that are wide beside their other word gaps (in place); ``em_sizes`` are font sizes in
    pixels by row number.

    In a row of prose such a gap is the space after a sentence, unless the same white runs through two
    neighbouring rows (or the only one): then it is the gutter between columns.
    """
    lines = members_of(owner)
    boxes = np.array(
        [
            (pieces.x0[m].min(), np.median(pieces.y0[m]), pieces.x1[m].max(), np.median(pieces.y1[m]))
            for _, m in lines
        ]
    ).reshape(-1, 4)
    following = max(em_sizes, default=-1) + 1
    cuts: list[npt.NDArray[np.intp]] = []
    for i, (number, members) in enumerate(lines):
        em = em_sizes[number]
        members = members[np.argsort(pieces.x0[members], kind="stable")]
        starts, ends = pieces.x0[members][1:], np.maximum.accumulate(pieces.x1[members])[:-1]
        gaps = starts - ends
        word_gaps = np.sort(gaps[gaps > 0.2 * em])
        wide = []
        for at in np.flatnonzero(gaps > SPLIT_GAP_EM * em):
            others = np.delete(word_gaps, np.searchsorted(word_gaps, gaps[at]))
            if not len(others) or gaps[at] > SPLIT_GAP_RATIO * np.median(others):
                wide.append(at)
        if not wide:
            continue
        rows = _neighbours(boxes, i, em)
        prose = len(word_gaps) >= PROSE_WORDS - 1 and 3 * len(wide) <= len(word_gaps)
        prose = prose and any(
            np.abs(boxes[row][:, 0].min() - boxes[i, 0]) < em
            or np.abs(boxes[row][:, 2].max() - boxes[i, 2]) < em
            for row in rows
        )
        for at in wide:
            if prose:
                shared = sum(
                    _is_open(pieces, np.concatenate([lines[j][1] for j in row]), ends[at], starts[at], em)
                    for row in rows
                )
                if shared < min(2, len(rows)):
                    continue
            cuts.append(members[at + 1 :])
    for members in cuts:
        owner[members] = following
        following += 1


def _neighbours(boxes: npt.NDArray[np.float64], i: int, em: float) -> list[npt.NDArray[np.intp]]:
    """Up to two rows above and two below line ``i``, nearest first: indices of the lines that make each row."""
    x0, top, x1, bottom = boxes[i]
    centre, centres = (top + bottom) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    beside = (boxes[:, 0] < x1) & (boxes[:, 2] > x0)
    rows: list[npt.NDArray[np.intp]] = []
    for side in (-1.0, 1.0):
        distance = side * (centres - centre)
        start = 0.6 * em
        for _ in range(2):
            candidates = np.flatnonzero(beside & (distance > start) & (distance < start + 2.5 * em))
            if not len(candidates):
                break
            nearest = float(distance[candidates].min())
            rows.append(candidates[distance[candidates] < nearest + 0.5 * em])
            start = nearest + 0.6 * em
    return rows


def _is_open(pieces: Components, row: npt.NDArray[np.intp], start: float, end: float, em: float) -> bool:
    """Whether a row of pieces leaves the gap ``start..end`` white, and begins, ends or goes on at its rims."""
    x0, x1 = pieces.x0[row], pieces.x1[row]
    middle = (start + end) / 2
    before, after = x1[x0 < middle], x0[x0 >= middle]
    left = float(before.max()) if len(before) else -np.inf
    right = float(after.min()) if len(after) else np.inf
    if min(right, end) - max(left, start) < CORRIDOR_EM * em:
        return False
    if not len(after):
        return left > start - 2 * em
    return len(before) > 0 or right < end + 0.5 * em
