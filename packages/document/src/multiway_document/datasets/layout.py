"""Groups words into lines and sorts lines into reading order by their positions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from multiway_document.result import Box, Line


def box_around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all boxes."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def words_to_line(words: Sequence[tuple[str, Box]]) -> Line:
    """Words of one line, in the order given, as one line."""
    return Line(" ".join(text for text, _ in words), box_around([box for _, box in words]), 1.0)


def words_to_lines(words: Iterable[tuple[str, Box]]) -> list[Line]:
    """Words in reading order as lines: a word that stands below or above the one before begins a new line."""
    rows: list[list[tuple[str, Box]]] = []
    for text, box in words:
        if rows and _same_row(rows[-1][-1][1], box) and box[2] > rows[-1][-1][1][0]:
            rows[-1].append((text, box))
        else:
            rows.append([(text, box)])
    return [words_to_line(row) for row in rows]


def in_reading_order(lines: Iterable[Line]) -> list[Line]:
    """Lines from top to bottom; those that stand side by side in one row from left to right.

    For data sets that keep their lines in no visual order. Columns are not told apart.
    """
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (line.box[1] + line.box[3], line.box[0])):
        if rows and _same_row(rows[-1][0].box, line.box):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.box[0])]


def _same_row(first: Box, second: Box) -> bool:
    """Whether two boxes overlap by more than half the lower one's height."""
    shared = min(first[3], second[3]) - max(first[1], second[1])
    return shared > 0.5 * min(first[3] - first[1], second[3] - second[1])
