"""The engine that chooses: the fast one where it reads with confidence, PP-OCR for all other pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from multiway_document.draft import draft_of
from multiway_document.fast_engine import FastEngine, FastReading
from multiway_document.ppocr_engine import PpocrEngine
from multiway_document.result import Line, Page
from multiway_document.second_look import as_prepared, disagreement, disorder, uncovered

SURE = 0.97
"""Mean confidence of a page's characters, below which a second engine is asked. Of 40 pages of the development set."""

SURE_LINE = 0.9
DISAGREEMENT = (
    0.25  # share of lines; upright pages have less than 0.1, pages with a hard shadow more than 0.5
)
DISORDER = 0.015  # share of steps back: lines of columns that were read across
SECOND_LOOK = 480, 800  # pixels; the smaller picture costs a fifth
UNSURE_SHARE = 0.06  # share of a page's characters that may stand in lines below ``SURE_LINE``


class AutoEngine:
    """Reads a page with the fast engine, and again with PP-OCR where that was unsure or left lines out."""

    def __init__(self, fast: FastEngine, ppocr: Callable[[], PpocrEngine]) -> None:
        """``ppocr`` is called when it is needed, which loads it."""
        self.fast = fast
        self.ppocr = ppocr

    def stream(self, image: npt.NDArray[np.uint8], *, markdown: bool) -> Iterator[Line | Page]:
        """As the engines do; lines of the fast engine come at once, when the page is known to be one for it."""
        found = self.fast.reading(image, markdown=markdown)
        sure = is_sure(found.page)
        if sure and not self._misses(image, found):
            yield from found.page.lines
            yield found.page
        else:
            draft = draft_of(found, with_lines=sure)
            yield from self.ppocr().stream(image, markdown=markdown, draft=draft)

    def _misses(self, image: npt.NDArray[np.uint8], found: FastReading) -> bool:
        """Whether the detector, on a small picture, sees other lines than were read, or in another order."""
        picture, scale = as_prepared(image, found.prepared, SECOND_LOOK[1])
        quads, _ = self.ppocr().detector(picture, SECOND_LOOK)
        quads = quads / np.float32(scale)
        boxes = [region.box for region in found.regions]
        if uncovered(quads, boxes) or disagreement(quads, boxes) > DISAGREEMENT:
            return True
        return disorder(quads, boxes) > DISORDER


def is_sure(page: Page) -> bool:
    """Whether the fast engine's reading of a page can be taken."""
    letters = sum(len(line.text) for line in page.lines)
    if not letters:
        return False
    mean = sum(line.confidence * len(line.text) for line in page.lines) / letters
    unsure = sum(len(line.text) for line in page.lines if line.confidence < SURE_LINE) / letters
    return mean >= SURE and unsure <= UNSURE_SHARE
