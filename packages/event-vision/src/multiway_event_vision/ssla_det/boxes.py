"""Boxes: from the head's numbers to pixels, and non-maximum suppression.

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


def suppress(boxes_M4: Tensor, score_M: Tensor, label_M: Tensor, threshold: float) -> Tensor:
    """int64 indices of the boxes that stay, best first: greedy non-maximum suppression within each class.

    A box goes if a better one of its class overlaps it by more than `threshold` (IoU). Of equal scores the first wins.
    torchvision's nms keeps the same boxes, but importing torchvision imports torch._dynamo: four seconds of CPU time
    before the first box, more than all else that starting takes.
    """
    order = score_M.argsort(descending=True, stable=True)
    boxes, labels = boxes_M4[order], label_M[order]
    low, high = (
        torch.maximum(boxes[:, None, :2], boxes[:, :2]),
        torch.minimum(boxes[:, None, 2:], boxes[:, 2:]),
    )
    shared = (high - low).clamp(min=0).prod(dim=-1)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=-1)
    overlap = shared / (area[:, None] + area - shared).clamp(min=1e-12)
    rivals = (overlap > threshold) & (labels[:, None] == labels)
    rows = rivals.triu(1).cpu().numpy()
    alive = [True] * len(order)
    for better in range(len(order)):
        if alive[better]:
            for worse in rows[better].nonzero()[0]:
                alive[worse] = False
    return order[torch.tensor(alive, dtype=torch.bool, device=order.device)]
