"""A second look at a page that was read: what the detector sees that no reader made sense of, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from multiway_document.ppocr.detector import Quads
from multiway_document.ppocr.straighten import straighten
from multiway_document.result import Box
from multiway_document.segmentation.preparation import PreparedPage
from multiway_document.segmentation.reading_order import reading_order

UNREAD = "unread_text"
"""Page flag: at least one place looks like text and was not read."""

UNKNOWN_SCRIPT = "unknown_script"
"""Page flag: most of the text was not read, as happens with scripts that the model has not learnt, and handwriting."""

LETTERS_A_HEIGHT = 0.5
"""Fewer letters in a stretch as long as the line is high are no reading of it (Latin print has two)."""

MIN_LINES = 3
READABLE = 0.87  # mean confidence over the page's lines, below which its script is doubted
LONG, ENDS = 4.0, 1.5
"""Line heights: lines shorter than the first are not compared; ends further apart than the second are not the same."""

COVERED = 0.4  # share of a line's area in lines that were read, from which it counts as read


def as_prepared(
    image: npt.NDArray[np.uint8], prepared: PreparedPage, side: int
) -> tuple[npt.NDArray[np.uint8], float]:
    """A picture turned as its prepared page is, with ``side`` pixels along the longer one, and its scale to that page.

    It is taken from the picture as given: what the preparation lost must be seen.
    """
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    width, height = prepared.source_size
    shrink = min(1.0, side / max(width, height))
    if shrink < 1.0:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    # A pixel of the prepared page in pixels of the source, and so of the small picture.
    scale = shrink * float(np.sqrt(abs(np.linalg.det(prepared.inverse[:, :2]))))
    rows, columns = prepared.grey.shape
    back = np.column_stack([shrink / scale * prepared.inverse[:, :2], shrink * prepared.inverse[:, 2]])
    turned = cv2.warpAffine(
        image,
        back,
        (max(1, round(columns * scale)), max(1, round(rows * scale))),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(turned, np.uint8), scale


def is_unread(quad: npt.NDArray[np.float32], text: str) -> bool:
    """Whether a detected line gave too little text for its length; marks shorter than two letters do not count."""
    width = float(np.linalg.norm(quad[1] - quad[0]))
    height = max(1.0, float(np.linalg.norm(quad[3] - quad[0])))
    letters = sum(not sign.isspace() for sign in text)
    return width >= 1.5 * height and letters < LETTERS_A_HEIGHT * width / height


def page_flags(read: Sequence[tuple[str, float]], unread: int) -> tuple[str, ...]:
    """Flags of a page from its lines (text, confidence) and the number of lines that were not read."""
    letters = sum(len(text) for text, _ in read)
    mean = sum(confidence * len(text) for text, confidence in read) / max(1, letters)
    total = len(read) + unread
    doubtful = unread >= max(MIN_LINES, 0.5 * total) or (len(read) >= MIN_LINES and mean < READABLE)
    return (*((UNREAD,) if unread else ()), *((UNKNOWN_SCRIPT,) if doubtful else ()))


def disagreement(quads: Quads, boxes: Sequence[Box]) -> float:
    """Share of the detected long lines that no single one of ``boxes`` covers from end to end: lines that a shadow's
    edge cut in two, or that run on into the next column."""
    places = np.array(boxes, np.float64).reshape(-1, 4)
    missed = total = 0
    for quad in quads:
        (x0, y0), (x1, y1) = quad.min(axis=0), quad.max(axis=0)
        height = y1 - y0
        if x1 - x0 < LONG * height:
            continue
        shared = np.minimum(places[:, 3], y1) - np.maximum(places[:, 1], y0)
        alike = shared > 0.5 * np.minimum(height, places[:, 3] - places[:, 1])
        alike &= np.abs(places[:, 0] - x0) < ENDS * height
        alike &= np.abs(places[:, 2] - x1) < ENDS * height
        total += 1
        missed += not alike.any()
    return missed / max(1, total)


def disorder(quads: Quads, boxes: Sequence[Box]) -> float:
    """Share of the pairs of ``boxes`` that stand the other way round in the reading order of the detected lines."""
    places = straighten(quads)
    if not places or not boxes:
        return 0.0
    order, _ = reading_order(places, [0.45 * (place[3] - place[1]) for place in places])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    corners = np.stack([quads.min(axis=1), quads.max(axis=1)], axis=1)
    ranks = []
    for x0, y0, x1, y1 in boxes:
        width = np.minimum(corners[:, 1, 0], x1) - np.maximum(corners[:, 0, 0], x0)
        height = np.minimum(corners[:, 1, 1], y1) - np.maximum(corners[:, 0, 1], y0)
        shared = np.clip(width, 0, None) * np.clip(height, 0, None)
        if shared.max() > 0:
            ranks.append(int(rank[int(shared.argmax())]))
    later = np.array(ranks)
    turned = np.triu(later[:, None] > later[None, :], 1).sum()
    return float(turned) / max(1.0, len(ranks) * (len(ranks) - 1) / 2)


def uncovered(quads: Quads, boxes: Sequence[Box]) -> list[int]:
    """Which detected lines lie outside all ``boxes`` that were read, both in pixels of one picture."""
    found = []
    places = np.array(boxes, np.float64).reshape(-1, 4)
    for index, quad in enumerate(quads):
        (x0, y0), (x1, y1) = quad.min(axis=0), quad.max(axis=0)
        width = np.minimum(places[:, 2], x1) - np.maximum(places[:, 0], x0)
        height = np.minimum(places[:, 3], y1) - np.maximum(places[:, 1], y0)
        shared = float(np.sum(np.clip(width, 0, None) * np.clip(height, 0, None)))
        if shared < COVERED * (x1 - x0) * (y1 - y0) and x1 - x0 >= 1.5 * (y1 - y0):
            found.append(index)
    return found
