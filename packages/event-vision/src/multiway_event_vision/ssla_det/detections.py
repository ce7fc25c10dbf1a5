"""Predictions -> detections: scores, the cells worth looking at, non-maximum suppression.

Legend: A cells, M detections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from multiway_event_vision.ssla_det.boxes import boxes_of_cells, suppress
from multiway_event_vision.ssla_det.detector import Detector, SslaDetOutputs
from multiway_event_vision.ssla_det.engines.engine import Grid
from multiway_event_vision.ssla_det.head import HeadOutputs, centres


class Predictor(Protocol):
    """An engine, a policy around engines, or what is read like one."""

    @property
    def model(self) -> Detector: ...

    def predict(self) -> tuple[Grid, HeadOutputs]: ...


@dataclass(frozen=True)
class DetectionConfig:
    """Defaults are the released code's."""

    score: float = 0.001
    """Detections below are dropped; a demo wants some 0.3."""
    overlap: float = 0.65
    """IoU above which the worse of two boxes of a class goes."""
    max_detections: int = 100


@dataclass(frozen=True)
class Detections:
    """M detections of one stream at one time, best first."""

    boxes_M4: Tensor
    """(x1, y1, x2, y2) in pixels, not clipped to the sensor."""
    score_M: Tensor
    label_M: Tensor
    """int64."""
    time_M: Tensor | None = None
    """int64 microseconds, the newest event of the cell that each came from; None for a whole window."""

    def cpu(self) -> Detections:
        """The same on the CPU."""
        time_M = None if self.time_M is None else self.time_M.cpu()
        return Detections(self.boxes_M4.cpu(), self.score_M.cpu(), self.label_M.cpu(), time_M)


def detect(engine: Predictor, config: DetectionConfig | None = None) -> Detections:
    """What the engine sees as of the last event pushed."""
    grid, outputs = engine.predict()
    device = grid.feature_GD.device
    centre_A2 = centres(grid.rows, grid.columns, engine.model.stride, device)[grid.active_G]
    return _select(outputs, centre_A2, engine.model.stride, config, grid.time_G[grid.active_G])


def detect_windows(
    outputs: SslaDetOutputs, *, stride: int, config: DetectionConfig | None = None
) -> list[Detections]:
    """What the model saw at the end of each window of a batch; cells without events are left out."""
    _, _, rows, columns = outputs.head.classes.shape
    centre_A2 = centres(rows, columns, stride, outputs.head.classes.device)
    found = []
    for stream, active_HW in enumerate(outputs.active_BHW):
        active_A = active_HW.flatten()
        chosen = HeadOutputs(
            *(
                x[stream : stream + 1].flatten(2)[:, :, None, active_A]
                for x in (outputs.head.classes, outputs.head.boxes, outputs.head.objectness)
            )
        )
        found.append(_select(chosen, centre_A2[active_A], stride, config, None))
    return found


@torch.no_grad()
def _select(
    outputs: HeadOutputs,
    centre_A2: Tensor,
    stride: int,
    config: DetectionConfig | None,
    time_A: Tensor | None,
) -> Detections:
    config = config or DetectionConfig()
    score_A, label_A = outputs.classes[0].flatten(1).sigmoid().max(dim=0)
    score_A = score_A * outputs.objectness[0].flatten().sigmoid()
    keep = (score_A >= config.score).nonzero().squeeze(1)
    raw_M4 = outputs.boxes[0].flatten(1).t()[keep]
    boxes_M4 = boxes_of_cells(raw_M4, centre_A2[keep].to(raw_M4), stride)
    best = suppress(boxes_M4, score_A[keep], label_A[keep], config.overlap)[: config.max_detections]
    chosen = keep[best]
    return Detections(
        boxes_M4[best], score_A[chosen], label_A[chosen], None if time_A is None else time_A[chosen]
    )
