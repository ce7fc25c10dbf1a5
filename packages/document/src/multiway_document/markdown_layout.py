"""Markdown of a page from its lines and their places alone, for the fast engine, which has no decoder.

Larger lines are headings, lines that begin with a mark or a number are list items, cells side by side are table
rows, and what is left is paragraphs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from multiway_document.segmentation import LineRegion

_BULLET = re.compile(r"^[•·▪◦‣\-–—*+°]\s+(?=\S)")
_NUMBER = re.compile(r"^(\d{1,3})[.)]\s+(?=\S)")


def lines_to_markdown(regions: Sequence[LineRegion], texts: Sequence[str]) -> str:
    """Markdown of lines in reading order; ``texts[i]`` is what ``regions[i]`` says."""
    if not regions:
        return ""
    body = float(np.median([region.x_height for region in regions]))
    blocks: list[str] = []
    paragraph: list[str] = []
    previous: LineRegion | None = None

    def flush() -> None:
        if paragraph:
            blocks.append(" ".join(paragraph))
            paragraph.clear()

    for region, text in zip(regions, texts, strict=True):
        apart = previous is None or region.block != previous.block or _gap(previous, region) > 1.6 * body
        previous = region
        size = region.x_height / body
        if size > 1.25:
            flush()
            blocks.append("#" * (1 if size > 1.7 else 2) + " " + text)
        elif bullet := _BULLET.match(text):
            flush()
            paragraph.append("- " + text[bullet.end() :])
        elif number := _NUMBER.match(text):
            flush()
            paragraph.append(f"{number[1]}. " + text[number.end() :])
        else:
            if apart:
                flush()
            paragraph.append(text)
    flush()
    return "\n\n".join(blocks)


def _gap(above: LineRegion, below: LineRegion) -> float:
    return below.box[1] - above.box[3]
