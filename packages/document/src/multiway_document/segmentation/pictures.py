"""Drawings on a page: large pieces of many strokes, and the loose strokes around them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from multiway_document.result import Box
from multiway_document.segmentation.components import Components

MIN_HEIGHT, MIN_WIDTH = 9.0, 5.0
"""Of a drawing's largest piece, in x-heights; letters of a page with text are smaller."""

MIN_FILL, MIN_RUNS = 0.12, 4.0
"""Share of its box that is ink, and mean runs of ink in its rows: frames, grids and signatures have less of one."""

AROUND = 3.0
"""x-heights around a drawing's box within which loose strokes are taken for its own."""


@dataclass(frozen=True)
class Pictures:
    """``strokes``: labels of pieces that belong to drawings. ``boxes`` (P, 4): drawings with what is around."""

    strokes: npt.NDArray[np.intp]
    boxes: npt.NDArray[np.float64]


def find_pictures(pieces: Components, x: float) -> Pictures:
    """The drawings of a page of x-height ``x`` (pixels).

    Strokes are the drawing's large piece, whatever lies among its ink, and thin upright lines nearby: hatching
    and shading, which could otherwise pass for letters or join the lines of text beside the drawing.
    """
    height, width = pieces.height, pieces.width
    large = (height > MIN_HEIGHT * x) & (width > MIN_WIDTH * x) & (pieces.area > MIN_FILL * height * width)
    cores = np.array([i for i in np.flatnonzero(large) if _runs(pieces, int(i)) > MIN_RUNS], np.intp)
    if not len(cores):
        return Pictures(cores, np.zeros((0, 4)))
    area: np.ndarray = np.isin(pieces.labels, cores).astype(np.uint8)
    size = max(3, round(3 * x))
    area = cv2.morphologyEx(area, cv2.MORPH_CLOSE, np.ones((size, size), np.uint8))
    area = cv2.dilate(area, np.ones((max(3, round(x)),) * 2, np.uint8))
    centre_x, centre_y = (pieces.x0 + pieces.x1) // 2, (pieces.y0 + pieces.y1) // 2
    page_height, page_width = area.shape
    among = area[np.minimum(centre_y, page_height - 1), np.minimum(centre_x, page_width - 1)] > 0
    boxes = np.stack([pieces.x0, pieces.y0, pieces.x1, pieces.y1], axis=1)[cores].astype(np.float64)
    around = AROUND * x * np.array([-1, -1, 1, 1])
    hatching = (height > 2.5 * x) & (width < 0.1 * height)
    near = np.zeros(len(height), bool)
    for x0, y0, x1, y1 in boxes + 3 * around:
        near |= (pieces.x0 >= x0) & (pieces.y0 >= y0) & (pieces.x1 <= x1) & (pieces.y1 <= y1)
    strokes = (among | hatching & near) & (pieces.area > 0)
    return Pictures(np.flatnonzero(strokes), boxes + around)


def is_stray(
    pieces: Components, members: npt.NDArray[np.intp], baseline: float, x: float, pictures: Pictures
) -> bool:
    """Whether a line is strokes around a drawing: inside its box, without four letters of like height on a base
    line."""
    if not len(pictures.boxes):
        return False
    x0, y0 = pieces.x0[members].min(), pieces.y0[members].min()
    x1, y1 = pieces.x1[members].max(), pieces.y1[members].max()
    a, b, c, d = pictures.boxes.T
    if not np.any((x0 >= a) & (y0 >= b) & (x1 <= c) & (y1 <= d)):
        return False
    height = pieces.height[members]
    letters = (height > 0.5 * x) & (height < 3.0 * x)
    letters &= np.abs(pieces.y1[members] - baseline) <= max(1.5, 0.2 * float(np.median(height)))
    return int(np.count_nonzero(letters)) < max(4, int(0.5 * np.count_nonzero(height > 0.5 * x)))


def captions_first(boxes: list[Box], pictures: Pictures) -> list[Box]:
    """The places by which lines are put in order: captions of drawings that text runs beside stand at the
    drawing's top, so that they are read before that text and not in the middle of it."""
    if not len(pictures.boxes) or not boxes:
        return boxes
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).T
    places = list(boxes)
    for left, top, right, bottom in pictures.boxes:
        height = y1 - y0
        inside = (x0 >= left) & (x1 <= right)
        caption = inside & ((y0 + y1) / 2 > bottom - 3 * height) & (y0 < bottom + 1.5 * height)
        beside = (~inside) & (np.minimum(y1, bottom) - np.maximum(y0, top) > 0.5 * height)
        beside &= (x0 > (left + right) / 2) | (x1 < (left + right) / 2)
        if np.count_nonzero(beside) < 3:
            continue
        start = min(top, float(y0[beside].min()))
        for k, i in enumerate(sorted(np.flatnonzero(caption), key=lambda i: (y0[i], x0[i]))):
            y = start - 1.0 + 1e-3 * k  # between what is above the drawing and what begins beside it
            places[i] = (boxes[i][0], y, boxes[i][2], y + 1e-4)
    return places


def _runs(pieces: Components, label: int) -> float:
    """Mean number of runs of ink in the rows of a piece."""
    rows = slice(pieces.y0[label], pieces.y1[label]), slice(pieces.x0[label], pieces.x1[label])
    ink = np.pad((pieces.labels[rows] == label).astype(np.int8), ((0, 0), (1, 0)))
    return float(np.mean(np.count_nonzero(np.diff(ink, axis=1) == 1, axis=1)))
