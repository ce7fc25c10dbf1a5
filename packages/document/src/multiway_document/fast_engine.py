"""The fast engine: find the lines of a page, read each in one pass, without autoregression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from multiway_document.hallucination_filter import is_stray_reading, usual_x_height
from multiway_document.line_reading import LineReading, ReadLines
from multiway_document.markdown_layout import lines_to_markdown
from multiway_document.markdown_layout.rows import place_words
from multiway_document.result import Line, Page, Word
from multiway_document.segmentation import (
    LineRegion,
    PreparedPage,
    crop_line,
    find_lines,
    lies_sideways,
    prepare,
)

LOW_CONFIDENCE = 0.5
LINES_PER_EVENT = 8  # how many lines are read between two events of a stream

PROBED_LINES = 6
UPRIGHT = 0.91
"""A page is taken as it is where its widest ``PROBED_LINES`` lines are read with this confidence; upside down they are
read with less than 0.88."""
MIN_GAIN = 0.02  # of that confidence, for which a page is turned


@dataclass(frozen=True)
class FastReading:
    """A page that was read, the prepared page that it was read from, and there the region of each line."""

    page: Page
    prepared: PreparedPage
    regions: list[LineRegion]


class FastEngine:
    """KOSMOS-2.5's vision encoder with a line reader on it; a page is prepared and segmented without a network."""

    def __init__(self, read: ReadLines) -> None:
        """``read`` is the network, by ONNX Runtime or by torch."""
        self.read = read

    def stream(self, image: np.ndarray, *, markdown: bool) -> Iterator[Line | Page]:
        """Lines of a page (H, W) or (H, W, 3) uint8 as they are read, and the page last.

        A page on its side or upside down is turned first; boxes are those of the page as given. Readings that are no
        text (:func:`is_stray_reading`) are left out. Lines whose characters are less probable than ``LOW_CONFIDENCE``
        on average carry the flag ``low_confidence``. ``markdown`` adds the page as markdown, made of the lines' places.
        """
        for event in self._events(image, markdown=markdown):
            yield event.page if isinstance(event, FastReading) else event

    def reading(self, image: np.ndarray, *, markdown: bool) -> FastReading:
        """The page at once, with what was found on the way."""
        *_, found = self._events(image, markdown=markdown)
        assert isinstance(found, FastReading)
        return found

    def _events(self, image: np.ndarray, *, markdown: bool) -> Iterator[Line | FastReading]:
        height, width = image.shape[:2]
        prepared, regions, known = self._upright(image)
        usual = usual_x_height(regions)
        lines: list[Line] = []
        kept = []
        for start in range(0, len(regions), LINES_PER_EVENT):
            part = regions[start : start + LINES_PER_EVENT]
            unread = [region for region in part if region.number not in known]
            readings = self.read([crop_line(prepared, region) for region in unread])
            known |= {region.number: reading for region, reading in zip(unread, readings, strict=True)}
            for region in part:
                reading = known[region.number]
                text = " ".join(reading.text.split())  # a wide gap may read as two blanks
                if is_stray_reading(text, reading.confidence, region, usual):
                    continue
                flags = reading.flags
                if reading.confidence < LOW_CONFIDENCE:
                    flags = (*flags, "low_confidence")
                words = _words(prepared, region, text, reading)
                line = Line(text, prepared.to_source(region.box), reading.confidence, flags, words)
                lines.append(line)
                kept.append(region)
                yield line
        written = lines_to_markdown(kept, [line.text for line in lines], prepared) if markdown else None
        page = Page(index=0, width=width, height=height, lines=tuple(lines), markdown=written)
        yield FastReading(page, prepared, kept)

    def _upright(self, image: np.ndarray) -> tuple[PreparedPage, list[LineRegion], dict[int, LineReading]]:
        """The page turned so that it can be read, its lines, and what was read of them to know."""
        prepared = prepare(image)
        regions = find_lines(prepared)
        if lies_sideways(regions, prepared.x_height):
            prepared = prepare(image, 1)
            regions = find_lines(prepared)
        best: tuple[float, PreparedPage, list[LineRegion], dict[int, LineReading]] | None = None
        for turned in (False, True):
            if turned:
                prepared = prepared.upside_down()
                regions = find_lines(prepared)
            probed = sorted(regions, key=lambda region: region.box[0] - region.box[2])[:PROBED_LINES]
            readings = self.read([crop_line(prepared, region) for region in probed])
            letters = sum(len(reading.text) for reading in readings)
            confidence = sum(reading.confidence * len(reading.text) for reading in readings) / max(1, letters)
            if best is None or confidence > best[0] + MIN_GAIN:
                known = {region.number: reading for region, reading in zip(probed, readings, strict=True)}
                best = confidence, prepared, regions, known
            if not letters or confidence > UPRIGHT:
                break
        assert best is not None
        return best[1:]


def _words(prepared: PreparedPage, region: LineRegion, text: str, reading: LineReading) -> tuple[Word, ...]:
    """The words of a line with the extents of their ink; the line's height and, where unknown, its confidence."""
    _, top, _, bottom = region.box
    placed = place_words(region, text)
    known = reading.words if len(reading.words) == len(placed) else [reading.confidence] * len(placed)
    return tuple(
        Word(
            word.text, prepared.to_source((word.x0, top, max(word.x0, word.x1), bottom)), min(1.0, confidence)
        )
        for word, confidence in zip(placed, known, strict=True)
    )
