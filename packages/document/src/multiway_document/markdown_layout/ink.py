"""What the picture shows beside the letters: how heavy and how slanted words are, and rules across the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from multiway_document.markdown_layout.rows import Row
from multiway_document.segmentation import PreparedPage

BOLD_RATIO = 1.22
"""Stroke width over the page's usual one from which a word counts as bold."""

ITALIC_SLANT = 0.10
"""Tangent of the stems' lean, above the page's usual one, from which a word counts as italic."""


@dataclass(frozen=True)
class Rule:
    """A horizontal line drawn on the page."""

    x0: float
    x1: float
    y: float


def find_rules(prepared: PreparedPage) -> list[Rule]:
    """Straight horizontal lines longer than 12 x-heights, from top to bottom."""
    x = prepared.x_height
    dark = (prepared.grey < 215).astype(np.uint8)
    # One row above and below makes up for the last tenth of a degree of skew.
    runs = cv2.morphologyEx(
        cv2.dilate(dark, np.ones((3, 1), np.uint8)), cv2.MORPH_OPEN, np.ones((1, max(3, round(12 * x))), np.uint8)
    )
    count, _, stats, _ = cv2.connectedComponentsWithStats(runs, connectivity=8)
    rules = []
    for left, top, width, height, _ in stats[1:count]:
        if height <= 0.8 * x + 3:
            rules.append(Rule(float(left), float(left + width), float(top + height / 2)))
    return sorted(rules, key=lambda rule: rule.y)


def measure_words(rows: Sequence[Row], prepared: PreparedPage) -> list[list[tuple[float, float]]]:
    """(stroke width in x-heights, slant) of every word of every row.

    Stroke width is ink over the ink's vertical edges, which is the mean length of its horizontal runs and needs
    no threshold. Slant is the regression of the vertical on the horizontal derivative along steep edges.
    """
    grey = prepared.grey.astype(np.float32)
    result = []
    for row in rows:
        x = row.x_height
        # Only the small letters' band: capitals and ascenders would make a word look heavier.
        top, bottom = max(0, round(row.baseline - 1.05 * x)), min(len(grey), round(row.baseline + 1))
        measures = []
        for word in row.words:
            window = grey[top:bottom, max(0, int(word.x0) - 1) : int(word.x1) + 2]
            if min(window.shape) < 3:
                measures.append((0.0, 0.0))
                continue
            across = np.diff(window, axis=1)[1:-1]
            edges = float(np.abs(across).sum()) / 2
            ink = float((255 - window[1:-1]).sum())
            dx = window[1:-1, 2:] - window[1:-1, :-2]
            dy = window[2:, 1:-1] - window[:-2, 1:-1]
            steep = np.abs(dx) > 1.5 * np.abs(dy)
            energy = float((dx[steep] ** 2).sum())
            slant = float((dx[steep] * dy[steep]).sum()) / energy if energy else 0.0
            measures.append((ink / edges / x if edges else 0.0, slant))
        result.append(measures)
    return result


def set_styles(rows: Sequence[Row], prepared: PreparedPage, body: Sequence[Row]) -> None:
    """Mark the words that are heavier or more slanted than those of the ``body`` rows (in place)."""
    measures = measure_words(rows, prepared)
    normal = {id(row) for row in body}
    usual = [
        (measure, len(word.text))
        for row, line in zip(rows, measures, strict=True)
        if id(row) in normal
        for word, measure in zip(row.words, line, strict=True)
    ]
    if len(usual) < 5:
        return
    stroke = float(np.median([m[0] for m, length in usual if length > 2] or [0.0]))
    slant = float(np.median([m[1] for m, length in usual if length > 2] or [0.0]))
    for row, line in zip(rows, measures, strict=True):
        for word, (own_stroke, own_slant) in zip(row.words, line, strict=True):
            bold = own_stroke > BOLD_RATIO * stroke
            italic = own_slant - slant > ITALIC_SLANT
            word.style = "bold_italic" if bold and italic else "bold" if bold else "italic" if italic else "regular"
