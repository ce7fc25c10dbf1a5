"""The engine that chooses: the fast one where it reads with confidence, PP-OCR for all other pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from multiway_document.draft import draft_of
from multiway_document.fast_engine import FastEngine, FastReading
from multiway_document.ppocr.recogniser import crop_quad
from multiway_document.ppocr_engine import PpocrEngine
from multiway_document.result import Line, Page
from multiway_document.second_look import UNREAD, as_prepared, disagreement, disorder, is_unread, uncovered

SURE = 0.97
"""Mean confidence of a page's characters, below which a second engine is asked. Of 40 pages of the development set."""

SURE_LINE = 0.9
DISAGREEMENT = (
    0.2  # share of lines; upright pages have less than 0.12, pages with a hard shadow more than 0.25
)
DISORDER = (
    0.006  # share of pairs; 0.001 or less on pages in order, 0.009 or more on columns that were mixed up
)
SECOND_LOOK = 384, 640  # pixels; the smaller picture costs a seventh
READABLE = 0.8  # confidence from which a line that was left out is text, and the page is read again
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
        flags = self._look_again(image, found) if sure else None
        if flags is not None:
            yield from found.page.lines
            yield replace(found.page, flags=(*found.page.flags, *flags))
        else:
            draft = draft_of(found, with_lines=sure)
            yield from self.ppocr().stream(image, markdown=markdown, draft=draft)

    def _look_again(self, image: npt.NDArray[np.uint8], found: FastReading) -> tuple[str, ...] | None:
        """Flags of a page that was read well; None where the detector, on a small picture, sees lines that can be read
        and were not, or another order."""
        picture, scale = as_prepared(image, found.prepared, SECOND_LOOK[1])
        quads, _ = self.ppocr().detector(picture, SECOND_LOOK)
        quads = quads / np.float32(scale)
        boxes = [region.box for region in found.regions]
        if disagreement(quads, boxes) > DISAGREEMENT or disorder(quads, boxes) > DISORDER:
            return None
        left_out = quads[uncovered(quads, boxes)]
        if not len(left_out):
            return ()
        inverse = found.prepared.inverse
        colours = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
        crops = [
            crop_quad(colours, (quad @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32))
            for quad in left_out
        ]
        readings = self.ppocr().recogniser(crops)
        if any(reading.confidence >= READABLE and len(reading.text) > 1 for reading in readings):
            return None
        unread = any(is_unread(quad, "") for quad in left_out)
        return (UNREAD,) if unread else ()


def is_sure(page: Page) -> bool:
    """Whether the fast engine's reading of a page can be taken."""
    letters = sum(len(line.text) for line in page.lines)
    if not letters:
        return False
    mean = sum(line.confidence * len(line.text) for line in page.lines) / letters
    unsure = sum(len(line.text) for line in page.lines if line.confidence < SURE_LINE) / letters
    return mean >= SURE and unsure <= UNSURE_SHARE
