"""The PP-OCR engine: lines found by a network anywhere in a picture, each read in one pass. For photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from multiway_document.draft import Draft
from multiway_document.markdown_layout import lines_to_markdown
from multiway_document.ppocr.columns import split_at_gutters
from multiway_document.ppocr.detector import Quads, TextDetector
from multiway_document.ppocr.light import even_light
from multiway_document.ppocr.recogniser import CropReading, TextRecogniser, crop_quad
from multiway_document.ppocr.regions import regions_of
from multiway_document.ppocr.straighten import straighten
from multiway_document.result import Line, Page, Word
from multiway_document.second_look import is_unread, page_flags
from multiway_document.segmentation.preparation import quarter_turned
from multiway_document.segmentation.reading_order import reading_order

LOW_CONFIDENCE = 0.8
STRAY = 0.6  # what is read with less confidence is no text: textures, ornaments, handwriting
LINES_PER_EVENT = 8
PROBED_LINES = 4
UPRIGHT = 0.9  # a page whose widest lines are read with this confidence is not turned
SIDEWAYS = 1.5  # height over width of most lines of a page on its side


class PpocrEngine:
    """PP-OCRv6 small: DB detector and CTC recogniser, without torch."""

    def __init__(self, folder: Path) -> None:
        self.detector = TextDetector(folder / "det.onnx")
        self._folder = folder

    @cached_property
    def recogniser(self) -> TextRecogniser:
        """Loaded at the first line that is read: a second look needs the detector alone."""
        return TextRecogniser(self._folder / "rec.onnx")

    def stream(
        self, image: npt.NDArray[np.uint8], *, markdown: bool, draft: Draft | None = None
    ) -> Iterator[Line | Page]:
        """Lines of a picture (H, W) or (H, W, 3) uint8 as they are read, and the page last, in reading order.

        A picture on its side or upside down is turned first; boxes are those of the picture as given. Lines of
        ``draft`` are not read again.
        """
        if image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, axis=2)
        height, width = image.shape[:2]
        turned, turns, quads, known = self._upright(even_light(image), draft)
        quads, known = split_at_gutters(turned, quads, known)
        places = straighten(quads)
        x_heights = [0.45 * (place[3] - place[1]) for place in places]
        order, blocks = reading_order(places, x_heights)
        back = quarter_turned(turns, width, height)
        if draft is not None:
            for index, quad in enumerate(quads):
                if index not in known and (reading := draft[quad @ back[:, :2].T + back[:, 2]]):
                    known[index] = reading
        lines: list[Line] = []
        kept: list[int] = []
        missed = 0
        for start in range(0, len(order), LINES_PER_EVENT):
            part = order[start : start + LINES_PER_EVENT]
            unread = [index for index in part if index not in known]
            known |= dict(zip(unread, self._read(turned, quads, unread), strict=True))
            for index in part:
                reading = known[index]
                missed += is_unread(quads[index], reading.text if reading.confidence >= STRAY else "")
                if not reading.text or reading.confidence < STRAY:
                    continue
                line = line_of(reading, quads[index], back, (width, height))
                lines.append(line)
                kept.append(index)
                yield line
        written = None
        if markdown:
            block = dict(zip(order, blocks, strict=True))
            regions = regions_of(
                [places[i] for i in kept], [known[i] for i in kept], [block[i] for i in kept]
            )
            written = lines_to_markdown(regions, [line.text for line in lines])
        flags = page_flags([(line.text, line.confidence) for line in lines], missed)
        yield Page(index=0, width=width, height=height, lines=tuple(lines), markdown=written, flags=flags)

    def _read(self, image: npt.NDArray[np.uint8], quads: Quads, indices: Sequence[int]) -> list[CropReading]:
        return self.recogniser([crop_quad(image, quads[index]) for index in indices])

    def _upright(
        self, image: npt.NDArray[np.uint8], draft: Draft | None
    ) -> tuple[npt.NDArray[np.uint8], int, Quads, dict[int, CropReading]]:
        """The picture turned upright, the quarters it was turned by, its lines, what was read of them."""
        turns = 0
        if draft is not None and draft.turns is not None:
            image = np.ascontiguousarray(np.rot90(image, draft.turns))
            return image, draft.turns, self.detector(image)[0], {}
        quads, _ = self.detector(image)
        if _lie_sideways(quads):
            turns = 1
            image = np.ascontiguousarray(np.rot90(image))
            quads, _ = self.detector(image)
        probed = np.argsort(-_widths(quads), kind="stable")[:PROBED_LINES].tolist()
        readings = self._read(image, quads, probed)
        if not probed or _confidence(readings) > UPRIGHT:
            return image, turns, quads, dict(zip(probed, readings, strict=True))
        over = np.ascontiguousarray(np.rot90(image, 2))
        size = np.array([image.shape[1], image.shape[0]], np.float32)
        turned_quads = (size - quads)[:, [2, 3, 0, 1]]
        turned = self._read(over, turned_quads, probed)
        if _confidence(turned) > _confidence(readings):
            return over, turns + 2, turned_quads, dict(zip(probed, turned, strict=True))
        return image, turns, quads, dict(zip(probed, readings, strict=True))


def line_of(
    reading: CropReading, quad: npt.NDArray[np.float32], back: npt.NDArray[np.float64], size: tuple[int, int]
) -> Line:
    """A reading with its place: ``back`` is the (2, 3) map from the picture that was read to the one given."""
    corners = quad @ back[:, :2].T + back[:, 2]

    def between(start: float, end: float) -> tuple[float, float, float, float]:
        top, bottom = corners[1] - corners[0], corners[2] - corners[3]
        points = np.stack(
            [
                corners[0] + start * top,
                corners[0] + end * top,
                corners[3] + start * bottom,
                corners[3] + end * bottom,
            ]
        )
        x0, y0 = np.clip(points.min(axis=0), 0, size)
        x1, y1 = np.clip(points.max(axis=0), 0, size)
        return float(x0), float(y0), float(x1), float(y1)

    words = tuple(Word(word.text, between(word.start, word.end), word.confidence) for word in reading.words)
    flags = ("low_confidence",) if reading.confidence < LOW_CONFIDENCE else ()
    return Line(reading.text, between(0.0, 1.0), min(1.0, reading.confidence), flags, words)


def _widths(quads: Quads) -> npt.NDArray[np.float32]:
    return np.asarray(np.linalg.norm(quads[:, 1] - quads[:, 0], axis=1))


def _lie_sideways(quads: Quads) -> bool:
    """Whether most of the ink of a page stands in lines that are higher than wide."""
    if not len(quads):
        return False
    heights = np.linalg.norm(quads[:, 3] - quads[:, 0], axis=1)
    tall = heights > SIDEWAYS * _widths(quads)
    return bool(
        np.maximum(heights, _widths(quads))[tall].sum() > 0.5 * np.maximum(heights, _widths(quads)).sum()
    )


def _confidence(readings: Sequence[CropReading]) -> float:
    letters = sum(len(reading.text) for reading in readings)
    return sum(reading.confidence * len(reading.text) for reading in readings) / max(1, letters)
