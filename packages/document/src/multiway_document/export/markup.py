"""Escapes text for HTML, XML and TSV."""

from __future__ import annotations

import unicodedata

from multiway_document.result import Box, Page

_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def printable(text: str) -> str:
    """The text without what XML forbids and terminals obey: control characters, surrogates, non-characters.

    Tabs and line breaks stay.
    """
    if text.isprintable():  # the usual case
        return text
    return "".join(c for c in text if c in "\t\n" or not _unprintable(c))


def escape(text: str) -> str:
    """The printable text with XML's and HTML's special characters as entities: for content and attributes."""
    return printable(text).translate(_ENTITIES)


def pixel_box(box: Box, page: Page) -> tuple[int, int, int, int]:
    """A box in whole pixels, cut to the page and at least one pixel wide and high where the page is."""
    x0, x1 = _whole_span(box[0], box[2], page.width)
    y0, y1 = _whole_span(box[1], box[3], page.height)
    return x0, y0, x1, y1


def _whole_span(low: float, high: float, limit: int) -> tuple[int, int]:
    start = min(max(round(low), 0), max(limit - 1, 0))
    return start, min(max(round(high), start + 1), limit)


def _unprintable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or ord(character) & 0xFFFE == 0xFFFE
