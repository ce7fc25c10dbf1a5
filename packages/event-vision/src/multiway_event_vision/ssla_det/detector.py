"""The interface of SSLA-Det and its baselines, which head, trainer and metrics use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from multiway_event_vision.ssla_det.head import HeadOutputs, YoloxHead
from multiway_event_vision.ssla_det.inputs import EventBatch


@dataclass(frozen=True)
class SslaDetOutputs:
    """Of a batch of streams at their read-outs. Legend: B read-outs of streams, D width, H, W the grid."""

    head: HeadOutputs
    grid_BDHW: Tensor
    active_BHW: Tensor
    """bool, cells that had an event; predictions of the others are one constant."""


class Detector(nn.Module, ABC):
    """Slices of streams in, predictions on a grid out."""

    head: YoloxHead

    @property
    @abstractmethod
    def stride(self) -> int:
        """Pixels along the side of a cell of the grid."""

    @property
    @abstractmethod
    def num_classes(self) -> int: ...

    @abstractmethod
    def read_outs(self, slices: Sequence[EventBatch]) -> SslaDetOutputs:
        """Predictions behind each of R slices that follow on each other, those of the first slice first: (R · B, ...).

        Each slice has the next events of the same B streams. Nothing is known before the first.
        """
