"""One trainer for all networks: Adam, the same number of passes, the rate cut to a tenth twice, no tuning for any.

Frames are drawn in a new order in each pass; the last, smaller batch counts too. T steps, N samples, B of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from multiway_core.errors import ConfigError
from numpy.typing import NDArray
from torch import Tensor

from multiway_event_vision.recurrent.networks import EventNetwork
from multiway_event_vision.recurrent.objective import Loss, objective, scores

_CUTS = (0.4, 0.8)
"""Shares of the passes after which the rate is a tenth: of 100 passes, 40 and 80 as published."""


@dataclass(frozen=True)
class TrainingConfig:
    """The published rates are 1e-4 (SNN, LSTM) and 5e-4 (RNN), with 100 passes over 60,000 digits."""

    passes: int = 6
    batch_size: int = 64
    learning_rate: float = 2e-3
    bfloat16: bool = True
    """Matrix products and convolutions in bfloat16; frames of 0 and 1 are exact in it."""

    def __post_init__(self) -> None:
        if min(self.passes, self.batch_size) < 1 or self.learning_rate <= 0:
            raise ConfigError(f"{self}: passes, batch size and learning rate must be positive")


def train(
    network: EventNetwork,
    frames_NT: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    loss: Loss,
    config: TrainingConfig,
    *,
    seed: int,
) -> float:
    """Train on frames (N, T, 2, H, W); `seed` draws the order. Returns the mean loss of the last pass."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    cuts = [max(1, round(share * config.passes)) for share in _CUTS]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, cuts, gamma=0.1)
    generator = np.random.default_rng(seed)
    network.train()
    mean = float("nan")
    for _ in range(config.passes):
        total = 0.0
        order = generator.permutation(len(labels_N))
        for chosen_B in np.split(order, range(config.batch_size, len(order), config.batch_size)):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                outputs = network(batch_of(frames_NT, chosen_B))
            value = objective(outputs, torch.from_numpy(labels_N[chosen_B]), loss)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += float(value.detach()) * len(chosen_B)
        schedule.step()
        mean = total / len(order)
    return mean


def batch_of(frames_NT: NDArray[np.uint8], chosen_B: NDArray[np.int64]) -> Tensor:
    """(T, B, 2, H, W) float32, time first as networks take it."""
    return torch.from_numpy(frames_NT[chosen_B]).transpose(0, 1).float()


@torch.no_grad()
def accuracy(
    network: EventNetwork,
    frames_NT: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    loss: Loss,
    *,
    batch_size: int = 128,
) -> float:
    """Share of samples whose highest score is their class; scores are those of the loss. In float32."""
    network.eval()
    right = 0
    for start in range(0, len(labels_N), batch_size):
        chosen_B = np.arange(start, min(start + batch_size, len(labels_N)))
        found_B = scores(network(batch_of(frames_NT, chosen_B)), loss).argmax(dim=1).numpy()
        right += int((found_B == labels_N[chosen_B]).sum())
    return right / len(labels_N)
