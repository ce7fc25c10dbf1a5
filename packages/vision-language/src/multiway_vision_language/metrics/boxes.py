"""Overlap of boxes: (left, top, right, bottom) in any one unit, right and bottom outside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from multiway_vision_language.result import XYXY

ZERO_BOX: XYXY = (0.0, 0.0, 0.0, 0.0)
"""What counts as the answer where a model gave no box: it overlaps with nothing."""


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Area of the intersection over area of the union of two boxes; 0 where neither has any area."""
    return float(pairwise_iou([one], [other])[0, 0])


def pairwise_iou(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> np.ndarray:
    """IoU of every pair of boxes: float64 (len(first), len(second)). A box without area overlaps with nothing."""
    from torchvision import ops  # imports torch._dynamo: seconds

    first_N4, second_M4 = (
        torch.as_tensor(boxes, dtype=torch.float64).reshape(-1, 4) for boxes in (first, second)
    )
    return ops.box_iou(first_N4, second_M4).nan_to_num(0.0).numpy()


def enclosing_box(boxes: Sequence[XYXY]) -> XYXY:
    """The smallest box around one or more boxes."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
