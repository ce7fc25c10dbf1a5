"""What the fast engine read with certainty, for the engine that reads the page again: it need not read that twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from multiway_document.fast_engine import FastReading
from multiway_document.markdown_layout.rows import place_words
from multiway_document.ppocr.recogniser import CropReading, WordReading

SURE_LINE = 0.97
SURE_WORD = 0.9
"""Mean confidence of a line's characters, and of those of each of its words, from which it is not read again on a page
that was read well but in a wrong order, or not wholly. Half of the time on papers in columns, for the same errors."""

UPRIGHT = 0.9  # mean confidence of a page from which its direction is known
ENDS, LEVEL = 0.7, 0.3
"""Heights of a detected line by which its ends, and its middle up or down, may differ from those of the line read."""


@dataclass(frozen=True)
class Draft:
    """Lines in the picture as given: quads (N, 4, 2) clockwise from the text's top left, and their readings.

    ``turns``: quarters, counter-clockwise, by which the picture must be turned to stand upright; None where that is
    not known.
    """

    quads: npt.NDArray[np.float64]
    readings: list[CropReading]
    turns: int | None

    def __getitem__(self, quad: npt.NDArray[np.float64]) -> CropReading | None:
        """The reading of a detected line (4, 2) of the picture as given, if the same line was read."""
        if not len(self.readings):
            return None
        start, end = (quad[0] + quad[3]) / 2, (quad[1] + quad[2]) / 2
        starts, ends = self.quads[:, [0, 3]].mean(axis=1), self.quads[:, [1, 2]].mean(axis=1)
        along = (end - start) / max(1e-6, float(np.hypot(*(end - start))))
        across = np.array([-along[1], along[0]])
        height = max(1.0, float(np.linalg.norm(quad[3] - quad[0])))
        far = np.maximum(np.abs((starts - start) @ along), np.abs((ends - end) @ along)) / (ENDS * height)
        level = np.maximum(np.abs((starts - start) @ across), np.abs((ends - end) @ across)) / (
            LEVEL * height
        )
        worst = np.maximum(far, level)
        best = int(worst.argmin())
        return self.readings[best] if worst[best] < 1 else None


def draft_of(found: FastReading, *, with_lines: bool) -> Draft:
    """The direction of a page, and ``with_lines`` those of its lines that need no second reading."""
    quads, readings = [], []
    for line, region in zip(found.page.lines, found.regions, strict=True) if with_lines else ():
        if line.confidence < SURE_LINE or any(word.confidence < SURE_WORD for word in line.words):
            continue
        x0, _, x1, _ = region.box
        words = tuple(
            WordReading(
                word.text, (placed.x0 - x0) / (x1 - x0), (placed.x1 - x0) / (x1 - x0), word.confidence
            )
            for word, placed in zip(line.words, place_words(region, line.text), strict=True)
        )
        quads.append(found.prepared.to_source_quad(region.box))
        readings.append(CropReading(line.text, line.confidence, words))
    letters = sum(len(line.text) for line in found.page.lines)
    mean = sum(line.confidence * len(line.text) for line in found.page.lines) / max(1, letters)
    across, down = found.prepared.inverse[:, 0]
    quarter = round(float(np.arctan2(down, across)) / (np.pi / 2)) % 4
    return Draft(
        np.array(quads, np.float64).reshape(-1, 4, 2), readings, quarter if mean >= UPRIGHT else None
    )
