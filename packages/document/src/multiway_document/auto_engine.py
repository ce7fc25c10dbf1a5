"""The engine that chooses: the fast one where it reads with confidence, PP-OCR for all other pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from multiway_document.fast_engine import FastEngine
from multiway_document.ppocr_engine import PpocrEngine
from multiway_document.result import Line, Page

SURE = 0.97
"""Mean confidence of a page's characters, below which a second engine is asked. Of 40 pages of the development set."""

SURE_LINE = 0.9
UNSURE_SHARE = 0.06  # share of a page's characters that may stand in lines below ``SURE_LINE``


class AutoEngine:
    """Reads a page with the fast engine, and again with PP-OCR where that was unsure or found nothing."""

    def __init__(self, fast: FastEngine, ppocr: Callable[[], PpocrEngine]) -> None:
        """``ppocr`` is called when it is needed, which loads it."""
        self.fast = fast
        self.ppocr = ppocr

    def stream(self, image: npt.NDArray[np.uint8], *, markdown: bool) -> Iterator[Line | Page]:
        """As the engines do; lines of the fast engine come at once, when the page is known to be one for it."""
        *_, page = self.fast.stream(image, markdown=markdown)
        assert isinstance(page, Page)
        if is_sure(page):
            yield from page.lines
            yield page
        else:
            yield from self.ppocr().stream(image, markdown=markdown)


def is_sure(page: Page) -> bool:
    """Whether the fast engine's reading of a page can be taken."""
    letters = sum(len(line.text) for line in page.lines)
    if not letters:
        return False
    mean = sum(line.confidence * len(line.text) for line in page.lines) / letters
    unsure = sum(len(line.text) for line in page.lines if line.confidence < SURE_LINE) / letters
    return mean >= SURE and unsure <= UNSURE_SHARE
