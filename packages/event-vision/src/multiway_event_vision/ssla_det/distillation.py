"""Distillation from a dense network: each cell's feature predicts the teacher's feature in that cell.

Labels speak for some ten cells of a read-out, a teacher for every channel of every cell that had an event. Its head's
input is foretold through a linear map, which is thrown away after training; cells where it sees an object count more.

Legend: B read-outs of streams, D width, E the teacher's, H, W the grid.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from multiway_event_vision.ssla_det.detector import SslaDetOutputs

_OBJECT_WEIGHT: Final = 8.0
"""Of a cell that the teacher is sure to see an object in, against 1."""


class Distillation(nn.Module):
    """The linear map from features of width D to the teacher's E, and the loss."""

    def __init__(self, width: int, teacher_width: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(width, teacher_width, 1)

    def loss(self, outputs: SslaDetOutputs, teacher: SslaDetOutputs) -> Tensor:
        """Squared error of features, each of the teacher's channels scaled to variance 1, plus that of its classes.

        Both on the same read-outs; the teacher's tensors have no gradient.
        """
        sure_BHW = teacher.head.objectness[:, 0].sigmoid()
        weight_BHW = outputs.active_BHW * (1 + _OBJECT_WEIGHT * sure_BHW)
        weight_BHW = weight_BHW / weight_BHW.sum().clamp(min=1)
        scale_E = teacher.grid_BDHW.std(dim=(0, 2, 3), keepdim=True).clamp(min=1e-3)
        error_BEHW = (self.map(outputs.grid_BDHW) - teacher.grid_BDHW) / scale_E
        features = (weight_BHW * error_BEHW.square().mean(1)).sum()
        sure_BHW = sure_BHW * outputs.active_BHW
        classes_BCHW = binary_cross_entropy_with_logits(
            outputs.head.classes, teacher.head.classes.sigmoid(), reduction="none"
        )
        return features + (sure_BHW * classes_BCHW.sum(1)).sum() / sure_BHW.sum().clamp(min=1)
