"""What an objective gives back, and what the trainer calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Loss:
    """What an objective returns for a batch.

    total: scalar, the SUM of the loss over what counts (tokens, boxes, ...).
    weight: how many count. The step's loss is sum(total) / sum(weight) over its shards; so is its gradient.
    metrics: numbers to log, averaged over shards and steps.
    samples: examples in the batch, for the logged throughput.
    """

    total: Tensor
    weight: float | Tensor
    metrics: Mapping[str, float | Tensor] = dataclasses.field(default_factory=dict)
    samples: int = 0


Objective = Callable[[nn.Module, Any], Loss]
