"""Recognition of single lines: crops of 48 rows -> characters with their places, by CTC."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from multiway_document.ppocr.session import open_session

HEIGHT = 48
MIN_WIDTH, MAX_WIDTH = 48, 3200
STEP = 8  # pixels of a crop of 48 rows that one CTC step stands for
RIM = 0.7  # steps that a letter reaches beyond the one that tells it
PIXELS_A_BATCH = 2400  # summed widths: wide lines alone, narrow ones together


@dataclass(frozen=True)
class WordReading:
    """A word, where it begins and ends as shares (0 to 1) of its crop's width, and its mean probability."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class CropReading:
    """Text of a line, the mean probability of its characters (0 without any) and its words."""

    text: str
    confidence: float
    words: tuple[WordReading, ...]


class TextRecogniser:
    """PP-OCRv6's recogniser: 18,708 characters of Latin scripts, Greek, Chinese and Japanese."""

    def __init__(self, path: Path) -> None:
        self.session = open_session(path)
        self.input = self.session.get_inputs()[0].name
        characters = self.session.get_modelmeta().custom_metadata_map["character"].split("\n")
        self.classes = ["", *characters, " "]  # class 0 is the blank of CTC

    def __call__(self, crops: Sequence[npt.NDArray[np.uint8]]) -> list[CropReading]:
        """Read crops (H, W, 3) RGB uint8 of any size, each one upright line."""
        widths = [
            int(np.clip(np.ceil(HEIGHT * crop.shape[1] / crop.shape[0]), MIN_WIDTH // 2, MAX_WIDTH))
            for crop in crops
        ]
        readings: dict[int, CropReading] = {}
        for batch in _batches(widths):
            widest = max(MIN_WIDTH, *(widths[index] for index in batch))
            widest = -(-widest // STEP) * STEP
            planes = np.zeros((len(batch), 3, HEIGHT, widest), np.float32)
            for row, index in enumerate(batch):
                shrinks = crops[index].shape[0] > HEIGHT
                small = cv2.resize(
                    crops[index],
                    (widths[index], HEIGHT),
                    interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
                )
                planes[row, :, :, : widths[index]] = (
                    small[:, :, ::-1].transpose(2, 0, 1) / np.float32(127.5) - 1
                )
            (probabilities_BTK,) = self.session.run(None, {self.input: planes})
            steps = probabilities_BTK.shape[1]
            for row, index in enumerate(batch):
                share = widths[index] / widest
                readings[index] = self._decode(probabilities_BTK[row], steps * share)
        return [readings[index] for index in range(len(crops))]

    def _decode(self, probabilities_TK: npt.NDArray[np.float32], steps: float) -> CropReading:
        """Best path, repeats merged, blanks dropped; ``steps`` is how many of the steps lie on the crop."""
        classes_T = probabilities_TK.argmax(axis=1)
        best_T = probabilities_TK.max(axis=1)
        kept = np.flatnonzero((classes_T != 0) & np.append(True, classes_T[1:] != classes_T[:-1]))
        words: list[WordReading] = []
        start: int | None = None
        run: list[tuple[str, int]] = []
        for at in [*kept.tolist(), None]:
            sign = " " if at is None else self.classes[classes_T[at]]
            if sign.isspace():
                if run and start is not None:
                    end = run[-1][1]
                    confidence = float(best_T[[place for _, place in run]].mean())
                    left, right = max(0.0, (start - RIM) / steps), min(1.0, (end + 1 + RIM) / steps)
                    left = max(left, words[-1].end if words else 0.0)
                    words.append(
                        WordReading("".join(sign for sign, _ in run), left, max(left, right), confidence)
                    )
                run, start = [], None
                continue
            assert at is not None
            start = at if start is None else start
            run.append((sign, at))
        letters = kept[[not self.classes[classes_T[at]].isspace() for at in kept]] if len(kept) else kept
        confidence = float(best_T[letters].mean()) if len(letters) else 0.0
        return _plain(CropReading(" ".join(word.text for word in words), confidence, tuple(words)))


def _plain(reading: CropReading) -> CropReading:
    """Forms that only stand beside ideographs (full-width signs, Roman numerals of one sign) as usual letters."""
    if any("\u3040" <= sign <= "\u9fff" for sign in reading.text):
        return reading
    if not any("\uff01" <= sign <= "\uff5e" or "\u2160" <= sign <= "\u217f" for sign in reading.text):
        return reading
    words = tuple(replace(word, text=_compatible(word.text)) for word in reading.words)
    return replace(reading, text=" ".join(word.text for word in words), words=words)


def _compatible(text: str) -> str:
    return "".join(
        unicodedata.normalize("NFKC", sign)
        if "\uff01" <= sign <= "\uff5e" or "\u2160" <= sign <= "\u217f"
        else sign
        for sign in text
    )


def crop_quad(image: npt.NDArray[np.uint8], quad: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The quadrilateral (4, 2) of a picture as an upright rectangle."""
    top, bottom = np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[2] - quad[3])
    left, right = np.linalg.norm(quad[3] - quad[0]), np.linalg.norm(quad[2] - quad[1])
    width, height = max(1, round(float(max(top, bottom)))), max(1, round(float(max(left, right))))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(quad.astype(np.float32), corners)
    return np.asarray(
        cv2.warpPerspective(
            image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        ),
        np.uint8,
    )


def _batches(widths: Sequence[int]) -> list[list[int]]:
    """Indices of crops read together: like widths, ``PIXELS_A_BATCH`` at most."""
    batches: list[list[int]] = []
    for index in sorted(range(len(widths)), key=lambda index: widths[index]):
        if batches and (len(batches[-1]) + 1) * widths[index] <= PIXELS_A_BATCH:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
