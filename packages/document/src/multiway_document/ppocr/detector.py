"""Text detection with differentiable binarization (DB, Liao et al. 2020): a picture -> a quadrilateral a line.

The network gives each pixel the probability that it lies in the shrunk core of a line. Cores above a threshold are
connected, framed by their smallest rectangles, and grown back to the height of the text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from multiway_document.ppocr.session import open_session

Quads = npt.NDArray[np.float32]
"""(N, 4, 2): corners x, y in pixels, clockwise from the text's top left."""

CORE_PROBABILITY = 0.3
MIN_SCORE = 0.5
"""Mean probability within a line's core, below which it is no text."""

UNCLIP = 1.6
"""How far a core grows back: area over perimeter, times this (the paper's r')."""

STRIDE = 32
SIDES = 736, 1536
"""Pixels: a picture whose shorter side is smaller is enlarged; one whose longer side is larger is reduced."""

MAX_LINES = 1000


class TextDetector:
    """PP-OCRv6's detector on one processor core."""

    def __init__(self, path: Path) -> None:
        self.session = open_session(path)
        self.input = self.session.get_inputs()[0].name

    def __call__(
        self, image: npt.NDArray[np.uint8], sides: tuple[int, int] = SIDES
    ) -> tuple[Quads, npt.NDArray[np.float32]]:
        """Lines of a picture (H, W, 3) RGB uint8 from top to bottom: quads (N, 4, 2) and their scores (N,)."""
        height, width = image.shape[:2]
        scale = max(1.0, sides[0] / min(height, width))
        scale = min(scale, sides[1] / max(height, width))
        size = tuple(max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in (width, height))
        shrinks = scale < 1
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        planes = small[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1.0  # trained on BGR
        (output,) = self.session.run(None, {self.input: planes[None]})
        quads, scores = lines_of(np.asarray(output)[0, 0])
        quads *= np.array([width / size[0], height / size[1]], np.float32)
        return quads, scores


def lines_of(probability: npt.NDArray[np.float32]) -> tuple[Quads, npt.NDArray[np.float32]]:
    """The lines in a probability map (H, W): quads in its pixels and mean probabilities."""
    mask = cv2.dilate((probability > CORE_PROBABILITY).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    quads: list[Any] = []
    scores: list[float] = []
    for contour in contours[:MAX_LINES]:
        centre, (width, height), angle = cv2.minAreaRect(contour)
        if min(width, height) < 3:
            continue
        core = cv2.boxPoints((centre, (width, height), angle))
        score = _mean_within(probability, core)
        if score < MIN_SCORE:
            continue
        # A rectangle grown by a distance with round corners has a grown rectangle as its smallest frame.
        grown = 2 * UNCLIP * width * height / (2 * (width + height))
        if min(width, height) + grown < 5:
            continue
        quads.append(_clockwise(cv2.boxPoints((centre, (width + grown, height + grown), angle))))
        scores.append(score)
    order = np.argsort([quad[:, 1].mean() for quad in quads], kind="stable")
    if not len(order):
        return np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32)
    return np.stack(quads)[order].astype(np.float32), np.array(scores, np.float32)[order]


def _mean_within(probability: npt.NDArray[np.float32], quad: npt.NDArray[Any]) -> float:
    height, width = probability.shape
    x0, y0 = np.clip(np.floor(quad.min(axis=0)).astype(int), 0, (width - 1, height - 1))
    x1, y1 = np.clip(np.ceil(quad.max(axis=0)).astype(int), 0, (width - 1, height - 1))
    mask = np.zeros((y1 - y0 + 1, x1 - x0 + 1), np.uint8)
    cv2.fillPoly(mask, [(quad - (x0, y0)).astype(np.int32)], (1,))
    return float(cv2.mean(probability[y0 : y1 + 1, x0 : x1 + 1], mask)[0])


def _clockwise(quad: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Corners from the top left; of an upright or moderately turned rectangle."""
    by_x = quad[np.argsort(quad[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    top_left, bottom_left = left[np.argsort(left[:, 1], kind="stable")]
    top_right, bottom_right = right[np.argsort(right[:, 1], kind="stable")]
    return np.stack([top_left, top_right, bottom_right, bottom_left])
