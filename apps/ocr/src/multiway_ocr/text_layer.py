"""Markdown of a PDF page that holds its own text: the words are the file's, only their arrangement is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from multiway_document.result import Box, Line
    from PIL import Image

_LEAST_SHARE = 0.5  # of a line's area that lies in the seen line that it is taken for
_LEAST_FITTING = 0.9  # of the lines of the text layer


def markdown_of_text_layer(image: Image.Image, lines: Sequence[Line]) -> str | None:
    """The page as markdown, with the exact text of ``lines`` (boxes in pixels of ``image``).

    The lines that are seen on the picture give the layout; each gets the text whose box lies in it, and the few
    that lie in none go to the nearest: no text is dropped. None when the two do not fit together (over a tenth
    lies in none): then the page has to be read.
    """
    from multiway_document.markdown_layout import lines_to_markdown
    from multiway_document.segmentation import find_lines, prepare

    prepared = prepare(np.asarray(image))
    regions = find_lines(prepared)
    if not regions:
        return None if lines else ""
    boxes = [prepared.to_source(region.box) for region in regions]
    inside: list[list[Line]] = [[] for _ in regions]
    fitting = 0
    for line in lines:
        shares = [_share(line.box, box) for box in boxes]
        best = int(np.argmax(shares))
        if shares[best] >= _LEAST_SHARE:
            fitting += 1
        else:
            best = int(np.argmin([_distance(line.box, box) for box in boxes]))
        inside[best].append(line)
    if fitting < _LEAST_FITTING * len(lines):
        return None
    kept = [number for number, found in enumerate(inside) if found]
    texts = [" ".join(line.text for line in sorted(inside[number], key=_left)) for number in kept]
    return lines_to_markdown([regions[number] for number in kept], texts, prepared)


def _left(line: Line) -> float:
    return line.box[0]


def _share(inner: Box, outer: Box) -> float:
    """How much of the box ``inner`` lies in ``outer``, 0 to 1."""
    width = min(inner[2], outer[2]) - max(inner[0], outer[0])
    height = min(inner[3], outer[3]) - max(inner[1], outer[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return width * height / area if width > 0 and height > 0 and area > 0 else 0.0


def _distance(one: Box, other: Box) -> float:
    """Gap between two boxes in pixels (0 where they touch), vertical gaps counted tenfold."""
    across = max(0.0, max(one[0], other[0]) - min(one[2], other[2]))
    down = max(0.0, max(one[1], other[1]) - min(one[3], other[3]))
    return across + 10 * down
