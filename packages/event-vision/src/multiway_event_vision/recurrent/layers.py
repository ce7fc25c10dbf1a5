"""Layers over whole sequences: the input projections of all steps are computed at once, then the recurrence runs.

Every layer takes (T, B, ...) and gives (T, B, ...): T steps, B samples, then features (F) or channels, rows, columns.
Time is always the first dimension, so that no batch can be taken for it. `torch.nn.RNN` and `LSTM` are not used because
they have no convolutional form; a test holds the dense layers equal to them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from multiway_event_vision.recurrent.cells import LifConfig, lif_step, lstm_step, rnn_step

Connection = Callable[[int, bool], nn.Module]
"""(outputs, whether with a bias) -> a linear map, dense or convolutional."""


def each_step(module: nn.Module, x_TB: Tensor) -> Tensor:
    """`module` on every step and sample; float32 comes out whatever it computes in."""
    return module(x_TB.flatten(0, 1)).unflatten(0, x_TB.shape[:2]).float()


class LifLayer(nn.Module):
    """Connection, then LIF neurons without lateral weights. Gives spikes and potentials."""

    def __init__(self, feed: nn.Module, config: LifConfig) -> None:
        super().__init__()
        self.feed, self.config = feed, config

    def forward(self, x_TB: Tensor) -> tuple[Tensor, Tensor]:
        current_TB = each_step(self.feed, x_TB)
        potential_B = spikes_B = torch.zeros_like(current_TB[0])
        steps = []
        for current_B in current_TB:
            potential_B, spikes_B = lif_step(current_B, potential_B, spikes_B, self.config)
            steps.append((spikes_B, potential_B))
        spikes, potentials = zip(*steps, strict=True)
        return torch.stack(spikes), torch.stack(potentials)


class RnnLayer(nn.Module):
    """tanh of what comes from below and of all the layer's own outputs one step ago."""

    def __init__(self, feed: nn.Module, recur: nn.Module) -> None:
        super().__init__()
        self.feed, self.recur = feed, recur

    def forward(self, x_TB: Tensor) -> Tensor:
        fed_TB = each_step(self.feed, x_TB)
        hidden_B = torch.zeros_like(fed_TB[0])
        steps = []
        for fed_B in fed_TB:
            hidden_B = rnn_step(fed_B, self.recur(hidden_B).float())
            steps.append(hidden_B)
        return torch.stack(steps)


class LstmLayer(nn.Module):
    """Long short-term memory; both maps give the four gates, so four times the layer's width."""

    def __init__(self, feed: nn.Module, recur: nn.Module) -> None:
        super().__init__()
        self.feed, self.recur = feed, recur

    def forward(self, x_TB: Tensor) -> Tensor:
        fed_TB = each_step(self.feed, x_TB)
        hidden_B = cell_B = torch.zeros_like(fed_TB[0].chunk(4, dim=1)[0])
        steps = []
        for fed_B in fed_TB:
            hidden_B, cell_B = lstm_step(fed_B, self.recur(hidden_B).float(), cell_B)
            steps.append(hidden_B)
        return torch.stack(steps)


class MemorylessLayer(nn.Module):
    """tanh of what comes from below and nothing else: the control without any memory."""

    def __init__(self, feed: nn.Module) -> None:
        super().__init__()
        self.feed = feed

    def forward(self, x_TB: Tensor) -> Tensor:
        return torch.tanh(each_step(self.feed, x_TB))
