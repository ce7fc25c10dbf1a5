"""Boxes: from the head's numbers to pixels, and how much two of them overlap.

Boxes are (x1, y1, x2, y2) in pixels everywhere, float. Legend: A, G, M boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_LOG_SIZE = 20.0
"""Beyond e^20 cells a box is as good as infinite; a gradient step too far must not make NaN of it."""


def boxes_of_cells(raw_A4: Tensor, centre_A2: Tensor, stride: int) -> Tensor:
    """(A, 4) pixels from the head's box outputs at cells with these centres (in pixels, see `head.centres`).

    Centre of the box = (offset + cell) · stride with whole-numbered cells; size = e^raw · stride.
    """
    corner_A2 = centre_A2 - stride / 2
    middle_A2 = corner_A2 + raw_A4[:, :2] * stride
    half_A2 = raw_A4[:, 2:].clamp(max=_MAX_LOG_SIZE).exp() * (stride / 2)
    return torch.cat([middle_A2 - half_A2, middle_A2 + half_A2], dim=1)


def _areas(boxes_4: Tensor) -> Tensor:
    return (boxes_4[..., 2] - boxes_4[..., 0]).clamp(min=0) * (boxes_4[..., 3] - boxes_4[..., 1]).clamp(min=0)


def _overlap(a_4: Tensor, b_4: Tensor) -> tuple[Tensor, Tensor]:
    """(intersection, union) of boxes that broadcast."""
    low, high = torch.maximum(a_4[..., :2], b_4[..., :2]), torch.minimum(a_4[..., 2:], b_4[..., 2:])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    return intersection, _areas(a_4) + _areas(b_4) - intersection


def iou(a_4: Tensor, b_4: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) that broadcast; 0 for two empty boxes."""
    intersection, union = _overlap(a_4, b_4)
    return intersection / union.clamp(min=1e-12)


def generalized_iou(a_4: Tensor, b_4: Tensor) -> Tensor:
    """IoU less the share of the smallest enclosing box that neither covers, in [-1, 1]."""
    intersection, union = _overlap(a_4, b_4)
    low, high = torch.minimum(a_4[..., :2], b_4[..., :2]), torch.maximum(a_4[..., 2:], b_4[..., 2:])
    hull = (high - low).prod(dim=-1).clamp(min=1e-12)
    return intersection / union.clamp(min=1e-12) - (hull - union) / hull


def suppress(boxes_M4: Tensor, score_M: Tensor, label_M: Tensor, threshold: float) -> Tensor:
    """int64 indices of the boxes that stay, best first: greedy non-maximum suppression within each class.

    A box goes if a better one of its class overlaps it by more than `threshold` (IoU). Of equal scores the first wins.
    """
    order = score_M.argsort(descending=True, stable=True)
    boxes, labels = boxes_M4[order], label_M[order]
    rivals = (iou(boxes[:, None], boxes[None]) > threshold) & (labels[:, None] == labels[None])
    rows = rivals.triu(1).cpu().numpy()
    alive = [True] * len(order)
    for better in range(len(order)):
        if alive[better]:
            for worse in rows[better].nonzero()[0]:
                alive[worse] = False
    return order[torch.tensor(alive, dtype=torch.bool, device=order.device)]
