"""SimOTA: assignment of grid cells to the objects of a window.

Candidates are the cells whose centre lies near the centre of an object. An object takes the k cells of lowest cost;
k is the sum of its ten best overlaps, so objects that are already found well get more cells. A cell that several
objects want goes to the one of lowest cost. Nothing here has a gradient.

Legend: A cells, G objects, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, one_hot

_OVERLAP_WEIGHT = 3.0
_FAR_COST = 1e6
_BEST_OVERLAPS = 10


@dataclass(frozen=True)
class Targets:
    """The objects of one window."""

    boxes_G4: Tensor
    """(x1, y1, x2, y2) in pixels."""
    label_G: Tensor
    """int64 in [0, num_classes)."""


@dataclass(frozen=True)
class Assignment:
    """M cells with an object."""

    cell_M: Tensor
    """int64, ascending."""
    object_M: Tensor
    """int64, its number in the targets."""
    overlap_M: Tensor
    """IoU of the cell's predicted box with its object."""


@torch.no_grad()
def assign(
    class_logits_AC: Tensor,
    objectness_A: Tensor,
    boxes_A4: Tensor,
    centre_A2: Tensor,
    targets: Targets,
    *,
    radius: float,
    wide_radius: float | None = None,
    active_A: Tensor | None = None,
) -> Assignment:
    """Assign cells to objects.

    Args:
        class_logits_AC, objectness_A: logits of every cell.
        boxes_A4: predicted boxes, and centre_A2 the cells' centres, in pixels.
        radius: how far, along each axis and in pixels, a candidate may be from an object's centre.
        active_A: bool; where given, only these cells are candidates,
        wide_radius: and an object that has none within `radius` looks this far.
    """
    from torchvision.ops import box_iou  # takes seconds to import: where it is used

    middle_G2 = (targets.boxes_G4[:, :2] + targets.boxes_G4[:, 2:]) / 2
    distance_GA = (middle_G2[:, None] - centre_A2[None]).abs().amax(dim=2)
    near_GA = distance_GA < radius
    if active_A is not None:
        near_GA &= active_A
        if wide_radius is not None:
            lonely_G = ~near_GA.any(dim=1)
            near_GA |= lonely_G[:, None] & active_A & (distance_GA < wide_radius)
    cell = near_GA.any(dim=0).nonzero().squeeze(1)
    if len(cell) == 0:
        return Assignment(cell, cell, boxes_A4.new_empty(0))
    # From here on A are the candidates only.
    near_GA = near_GA[:, cell]
    overlap_GA = box_iou(targets.boxes_G4, boxes_A4[cell])
    probability_AC = (class_logits_AC[cell].sigmoid() * objectness_A[cell, None].sigmoid()).sqrt()
    wanted_GC = one_hot(targets.label_G, class_logits_AC.shape[1]).to(probability_AC)
    shape = (len(wanted_GC), *probability_AC.shape)
    class_cost_GA = binary_cross_entropy(
        probability_AC.expand(shape), wanted_GC[:, None].expand(shape), reduction="none"
    ).sum(dim=2)
    cost_GA = class_cost_GA - _OVERLAP_WEIGHT * (overlap_GA + 1e-8).log() + _FAR_COST * ~near_GA

    best = overlap_GA.topk(min(_BEST_OVERLAPS, len(cell)), dim=1).values
    wanted_cells_G = best.sum(dim=1).int().clamp(min=1)
    rank_GA = cost_GA.argsort(dim=1, stable=True).argsort(dim=1)
    taken_GA = rank_GA < wanted_cells_G[:, None]
    if active_A is not None:
        taken_GA &= near_GA  # an object without any active cell nearby gets none, not somebody else's
    cheapest_A = cost_GA.masked_fill(~taken_GA, float("inf")).argmin(dim=0)
    matched = taken_GA.any(dim=0).nonzero().squeeze(1)
    owner = cheapest_A[matched]
    return Assignment(cell[matched], owner, overlap_GA[owner, matched])
