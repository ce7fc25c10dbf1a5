"""Overlap of boxes: (left, top, right, bottom) in any one unit, right and bottom outside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multiway_vision_language.result import XYXY

ZERO_BOX: XYXY = (0.0, 0.0, 0.0, 0.0)
"""What counts as the answer where a model gave no box: it overlaps with nothing."""


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Area of the intersection over area of the union of two boxes; 0 where neither has any area."""
    return float(pairwise_iou([one], [other])[0, 0])


def pairwise_iou(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> np.ndarray:
    """IoU of every pair of boxes: float64 (len(first), len(second)). A box without area overlaps with nothing."""
    first_N14 = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    second_1M4 = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    corners = np.minimum(first_N14[..., 2:], second_1M4[..., 2:])
    sides = np.clip(corners - np.maximum(first_N14[..., :2], second_1M4[..., :2]), 0, None)
    both_NM = sides[..., 0] * sides[..., 1]
    either_NM = _areas(first_N14) + _areas(second_1M4) - both_NM
    return np.divide(both_NM, either_NM, out=np.zeros_like(both_NM), where=either_NM > 0)


def enclosing_box(boxes: Sequence[XYXY]) -> XYXY:
    """The smallest box around one or more boxes."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[..., 2] - boxes[..., 0], 0, None) * np.clip(boxes[..., 3] - boxes[..., 1], 0, None)
