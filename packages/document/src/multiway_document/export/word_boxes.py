"""Word boxes, from line boxes where the reader gives none a word.

hOCR, ALTO, TSV and searchable PDF want one a word. A line's box is shared out
in proportion to the words' widths in a reference font; where the page picture shows a clear gap close to such
a border, the border is moved into the gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from multiway_document.export.direction import visual_order
from multiway_document.export.markup import printable
from multiway_document.export.page_images import PageImages
from multiway_document.export.reference_font import text_width
from multiway_document.result import Box, Line, Page, Word

# All relative to the height of the line's box.
_REACH = 0.6  # how far one border may be moved
_FAR = 3.0  # how far it may be moved when every border finds its gap
_LEAST_GAP = 0.1  # narrower gaps stand between letters
_LEAST_INK = 0.04  # less ink in a column is noise
_LEAST_CONTRAST = 48  # of 255, between the lightest and the darkest pixel of a line with ink
_CLEARLY_WIDER = 1.4


class PageInk:
    """The picture of a page, asked for the columns of a box that hold ink."""

    def __init__(self, page: Page, image: Image.Image) -> None:
        self._grey = np.asarray(image.convert("L"))
        self._across = image.width / max(page.width, 1)
        self._down = image.height / max(page.height, 1)

    def gaps(self, box: Box) -> list[tuple[float, float]]:
        """Runs of columns without ink between the first and the last ink of the box, as (x0, x1) of the page.

        Empty if the box holds no two clearly different brightnesses.
        """
        x0, x1 = round(box[0] * self._across), round(box[2] * self._across)
        y0, y1 = round(box[1] * self._down), round(box[3] * self._down)
        x0, y0 = max(x0, 0), max(y0, 0)
        crop = self._grey[y0:y1, x0:x1]
        if not crop.size or int(crop.max()) - int(crop.min()) < _LEAST_CONTRAST:
            return []
        ink = crop < _otsu(crop)
        if ink.mean() > 0.5:  # light text on dark ground
            ink = ~ink
        inked = ink.sum(axis=0) >= max(1, round(_LEAST_INK * crop.shape[0]))
        columns = np.flatnonzero(inked)
        ends = np.flatnonzero(np.diff(columns) > 1)
        return [
            ((x0 + int(columns[i]) + 1) / self._across, (x0 + int(columns[i + 1])) / self._across)
            for i in ends
        ]


def page_words(page: Page, images: PageImages | None = None) -> list[tuple[Line, list[Word]]]:
    """The page's lines that have words, with their words; ``images``, if given, sharpen the word boxes."""
    lines = [line for line in page.lines if line.text.strip()]
    ink = PageInk(page, images(page.index)) if images is not None and lines else None
    split = [(line, split_line(line, ink)) for line in lines]
    return [(line, words) for line, words in split if words]


def split_line(line: Line, ink: PageInk | None = None) -> list[Word]:
    """The words of a line in reading order: as the reader placed them, else each with a box as high as the line.

    Right-to-left text is laid out from the right. Borders are snapped to the page's ink if it is given.
    """
    if line.words:
        shown = [replace(word, text=printable(word.text)) for word in line.words]
        return [word for word in shown if word.text.strip()]
    texts = printable(line.text).split()
    if not texts:
        return []
    order = visual_order(texts)
    spans = _spans([text_width(texts[i]) or 1 for i in order], line.box, ink)
    boxes: dict[int, Box] = {
        index: (left, line.box[1], right, line.box[3])
        for index, (left, right) in zip(order, spans, strict=True)
    }
    return [Word(text, boxes[index], line.confidence) for index, text in enumerate(texts)]


def _spans(widths: Sequence[int], box: Box, ink: PageInk | None) -> list[tuple[float, float]]:
    """(x0, x1) of every word from left to right."""
    borders = _share_out(widths, box[0], box[2])
    if ink is not None and borders:
        found = _clear_gaps(borders, ink.gaps(box), box[3] - box[1])
        # Words between two found gaps share out what lies between them.
        start, left = 0, box[0]
        for index in [*sorted(found), len(borders)]:
            end, right = (found[index][0], found[index][1]) if index in found else (box[2], box[2])
            borders[start:index] = _share_out(widths[start : index + 1], left, end)
            if index in found:
                borders[index] = found[index]
            start, left = index + 1, right
    edges = [box[0], *(x for border in borders for x in border), box[2]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _share_out(widths: Sequence[int], left: float, right: float) -> list[tuple[float, float]]:
    """The gaps (x0, x1) between words set in the reference font and stretched to fill left..right."""
    space = text_width(" ")
    scale = (right - left) / (sum(widths) + space * (len(widths) - 1))
    gaps, x = [], left
    for width in widths[:-1]:
        x += width * scale
        gaps.append((x, x + space * scale))
        x += space * scale
    return gaps


def _clear_gaps(
    borders: Sequence[tuple[float, float]], gaps: Sequence[tuple[float, float]], height: float
) -> dict[int, tuple[float, float]]:
    """The gap that each border belongs to, for the borders where that is clear."""
    gaps = [gap for gap in gaps if gap[1] - gap[0] >= _LEAST_GAP * height]
    by_width = sorted(gaps, key=lambda gap: gap[0] - gap[1])
    chosen, rest = sorted(by_width[: len(borders)]), by_width[len(borders) :]
    least = min(map(_width, chosen), default=0.0)
    if (
        len(chosen) == len(borders)
        and all(least >= _CLEARLY_WIDER * _width(gap) for gap in rest)
        and all(
            abs(_centre(gap) - _centre(border)) <= _FAR * height
            for gap, border in zip(chosen, borders, strict=True)
        )
    ):  # exactly as many wide gaps as borders
        return dict(enumerate(chosen))
    found: dict[int, tuple[float, float]] = {}
    last = -np.inf
    for index, border in enumerate(borders):
        near = [
            gap for gap in gaps if gap[0] >= last and abs(_centre(gap) - _centre(border)) <= _REACH * height
        ]
        if not near:
            continue
        best = max(near, key=_width)
        if all(_width(best) >= _CLEARLY_WIDER * _width(gap) for gap in near if gap is not best):
            found[index] = best
            last = best[1]
    return found


def _width(gap: tuple[float, float]) -> float:
    return gap[1] - gap[0]


def _centre(gap: tuple[float, float]) -> float:
    return (gap[0] + gap[1]) / 2


def _otsu(grey: np.ndarray) -> int:
    """The threshold below which a pixel counts as dark: that of the greatest variance between the classes."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    mass = np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return int(np.argmax(np.nan_to_num(between))) + 1
