"""Lines in reading order, grouped into the blocks that formats with areas and paragraphs ask for."""

from __future__ import annotations

from collections.abc import Sequence

from multiway_document.result import Box, Line, Word

Placed = tuple[Line, list[Word]]

MAX_GAP = 0.9  # line heights of white between two lines of a paragraph
MAX_SIZE = 1.5  # ratio of two heights of lines of a paragraph


def blocks_of(lines: Sequence[Placed]) -> list[list[Placed]]:
    """Consecutive lines that stand close below or beside each other, in about one size."""
    blocks: list[list[Placed]] = []
    for placed in lines:
        if blocks and _follows(blocks[-1][-1][0].box, placed[0].box):
            blocks[-1].append(placed)
        else:
            blocks.append([placed])
    return blocks


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box around boxes, at least one."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _follows(above: Box, below: Box) -> bool:
    heights = above[3] - above[1], below[3] - below[1]
    if max(heights) > MAX_SIZE * max(min(heights), 1e-6):
        return False
    gap = below[1] - above[3]
    beside = min(above[3], below[3]) - max(above[1], below[1]) > 0.5 * min(heights)
    overlap = min(above[2], below[2]) - max(above[0], below[0])
    return beside or (overlap > 0 and -0.5 * min(heights) < gap < MAX_GAP * min(heights))
