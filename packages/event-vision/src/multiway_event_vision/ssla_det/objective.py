"""The losses of the YOLOX head as SSLA-Det uses them: boxes by generalized IoU, objectness, classes; no L1 term.

Legend: B streams, A cells of a stream, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from multiway_core.errors import InputError
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from multiway_event_vision.ssla_det.assignment import Targets, assign
from multiway_event_vision.ssla_det.boxes import boxes_of_cells
from multiway_event_vision.ssla_det.detector import SslaDetOutputs
from multiway_event_vision.ssla_det.head import centres


@dataclass(frozen=True)
class ObjectiveConfig:
    """How cells are assigned and losses weighed."""

    box_weight: float = 5.0
    radius: float = 1.5
    """Of candidates around an object's centre, in cells."""
    active_cells_only: bool = False
    """Ours: only cells that had an event are candidates, since no other can tell one thing from another."""
    wide_radius: float = 2.5
    """Then: an object without a candidate looks this far, in cells."""


@dataclass(frozen=True)
class Losses:
    """Scalars; `total` is what is minimised."""

    total: Tensor
    box: Tensor
    objectness: Tensor
    classes: Tensor
    assigned: int
    """Cells with an object."""


def objective(
    outputs: SslaDetOutputs,
    targets: Sequence[Targets],
    *,
    stride: int,
    config: ObjectiveConfig | None = None,
) -> Losses:
    """Losses of a batch, each summed over its cells and divided by the number of assigned cells.

    Raises InputError: another number of targets than streams, or a label out of range.
    """
    from torchvision.ops import generalized_box_iou_loss  # takes seconds to import: where it is used

    config = config or ObjectiveConfig()
    B, num_classes, rows, columns = outputs.head.classes.shape
    if len(targets) != B:
        raise InputError(f"objective: {len(targets)} targets for {B} streams")
    centre_A2 = centres(rows, columns, stride, outputs.head.classes.device).to(outputs.head.classes.dtype)
    zero = outputs.head.classes.sum() * 0
    box, classes, wanted_objectness, assigned = zero, zero, [], 0
    for stream, target in enumerate(targets):
        if (
            len(target.label_G)
            and not 0 <= int(target.label_G.min()) <= int(target.label_G.max()) < num_classes
        ):
            raise InputError(
                f"objective: label out of range 0 to {num_classes - 1}: {target.label_G.tolist()}"
            )
        class_logits_AC = outputs.head.classes[stream].flatten(1).t()
        objectness_A = outputs.head.objectness[stream].flatten()
        boxes_A4 = boxes_of_cells(outputs.head.boxes[stream].flatten(1).t(), centre_A2, stride)
        found = assign(
            class_logits_AC,
            objectness_A,
            boxes_A4,
            centre_A2,
            target,
            radius=config.radius * stride,
            wide_radius=config.wide_radius * stride,
            active_A=outputs.active_BHW[stream].flatten() if config.active_cells_only else None,
        )
        wanted_A = torch.zeros_like(objectness_A)
        wanted_A[found.cell_M] = 1
        wanted_objectness.append(wanted_A)
        assigned += len(found.cell_M)
        box = box + generalized_box_iou_loss(
            boxes_A4[found.cell_M], target.boxes_G4[found.object_M], reduction="sum"
        )
        labels = one_hot(target.label_G[found.object_M], num_classes) * found.overlap_M[:, None]
        classes = classes + binary_cross_entropy_with_logits(
            class_logits_AC[found.cell_M], labels.to(class_logits_AC.dtype), reduction="sum"
        )
    objectness = binary_cross_entropy_with_logits(
        outputs.head.objectness.flatten(), torch.cat(wanted_objectness), reduction="sum"
    )
    share = 1 / max(assigned, 1)
    box, objectness, classes = box * share, objectness * share, classes * share
    return Losses(config.box_weight * box + objectness + classes, box, objectness, classes, assigned)
