"""How well predicted line boxes cover the true ones: two readings of OCREval's IOU (appendix A.2).

The paper does not say how boxes are aggregated over a page, so both usual ways are given. Both say nothing
about text. Boxes are (x0, y0, x1, y1) in pixels; one without area covers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from multiway_document.result import Box


def box_iou_union(predicted: Sequence[Box], expected: Sequence[Box]) -> float:
    """IOU (a): area covered by both sets of boxes over area covered by either.

    Exact for any real coordinates (a sweep over x). 1.0 when neither set covers anything.
    """
    both, either = _joint_areas(predicted, expected)
    return both / either if either else 1.0


def box_iou_matched(predicted: Sequence[Box], expected: Sequence[Box]) -> float:
    """IOU (b): mean IoU of boxes paired one to one for the greatest sum (Hungarian); unpaired boxes count 0.

    The mean is over max(len(predicted), len(expected)). 1.0 when there are no boxes at all.
    """
    count = max(len(predicted), len(expected))
    if not predicted or not expected:
        return float(count == 0)
    iou = pairwise_iou(predicted, expected)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    return float(iou[rows, columns].sum()) / count


def pairwise_iou(predicted: Sequence[Box], expected: Sequence[Box]) -> np.ndarray:
    """IoU of every pair of boxes: float64 (len(predicted), len(expected))."""
    a = np.asarray(predicted, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(expected, dtype=np.float64).reshape(1, -1, 4)
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    both = np.clip(width, 0, None) * np.clip(height, 0, None)
    either = _areas(a) + _areas(b) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[..., 2] - boxes[..., 0], 0, None) * np.clip(boxes[..., 3] - boxes[..., 1], 0, None)


def _joint_areas(first: Sequence[Box], second: Sequence[Box]) -> tuple[float, float]:
    """Areas of the intersection and of the union of two sets of boxes.

    A vertical line sweeps over x. ``cover`` counts, per set and per interval between neighbouring y
    coordinates, how many boxes of the set the line crosses there: O(boxes^2) time, O(boxes) memory.
    """
    boxes = np.array([*first, *second], dtype=np.float64).reshape(-1, 4)
    owner = np.repeat([0, 1], [len(first), len(second)])
    solid = _areas(boxes) > 0
    boxes, owner = boxes[solid], owner[solid]
    if not len(boxes):
        return 0.0, 0.0
    ys = np.unique(boxes[:, [1, 3]])
    heights = np.diff(ys)
    top, bottom = np.searchsorted(ys, boxes[:, 1]), np.searchsorted(ys, boxes[:, 3])
    events = sorted(
        (x, step, index)
        for index, (left, _, right, _) in enumerate(boxes.tolist())
        for x, step in ((left, 1), (right, -1))
    )
    cover = np.zeros((2, len(heights)), dtype=np.int32)
    both = either = 0.0
    before = events[0][0]
    for x, step, index in events:
        if x > before:
            covered = cover > 0
            both += (x - before) * float(heights @ (covered[0] & covered[1]))
            either += (x - before) * float(heights @ (covered[0] | covered[1]))
            before = x
        cover[owner[index], top[index] : bottom[index]] += step
    return both, either
