"""Auxiliary loss: behind every level, each event predicts the class of its object.

The head speaks for some ten cells of a read-out, so it takes long until a level learns what tells one shape from
another. Thousands of events lie in the same boxes. A linear map behind each level but the first sorts them; it is
thrown away after training, and the detector is the published one.

Legend: M events behind a level, D its width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from multiway_event_vision.ssla_det.batches import NOTHING, UNKNOWN
from multiway_event_vision.ssla_det.state_update import FeatureHook


class EventClasses(nn.Module):
    """The maps, for levels of the given widths; and the mean cross-entropy of what they are shown."""

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.maps = nn.ModuleList(nn.Linear(width, num_classes + 1) for width in widths[1:])

    def loss(self, shown: Sequence[Sequence[tuple[Tensor, Tensor]]], labels: Sequence[Tensor]) -> Tensor:
        """Mean over levels. shown: of each slice and level, (x_MD, index_M); labels: of each slice (`StreamBatch`)."""
        total = labels[0].new_zeros((), dtype=torch.float32)
        pairs = [
            (levels, label) for levels, label in zip(shown, labels, strict=True) if levels
        ]  # slices with events
        for level, classify in enumerate(self.maps, 1):
            if not pairs:
                break
            x_MD = torch.cat([levels[level][0] for levels, _ in pairs])
            label_M = torch.cat([label[levels[level][1]] for levels, label in pairs])
            known = label_M != UNKNOWN
            wanted_M = label_M.masked_fill(label_M == NOTHING, self.num_classes)[known]
            if len(wanted_M):
                total = total + cross_entropy(classify(x_MD[known]), wanted_M)
        return total / len(self.maps)


def feature_hooks(slices: int) -> tuple[list[FeatureHook], list[list[tuple[Tensor, Tensor]]]]:
    """(what to give to `SslaDet.read_outs`, what it will have shown: ``[slice][level]``)."""
    shown: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(slices)]

    def of_slice(number: int) -> FeatureHook:
        return lambda level, x_MD, index_M: shown[number].append((x_MD, index_M))

    return [of_slice(number) for number in range(slices)], shown
