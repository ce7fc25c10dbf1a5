"""Operation counts of one sample: multiply-accumulates, and additions where inputs are spikes.

A dense machine multiplies every weight at every step. A machine that follows events does nothing for an input of 0 and
only adds the weight for an input of 1: so for the first layer of every network here, whose frames are 0 or 1, and for
all layers of an SNN. Biases, tanh and sigmoid are not counted, borders of convolutions not taken off.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multiway_event_vision.recurrent.layers import LifLayer, LstmLayer
from multiway_event_vision.recurrent.networks import EventNetwork, Outputs


@dataclass(frozen=True)
class Operations:
    """Of one sample over all its steps, means over a batch."""

    dense_macs: float
    """Every weight at every step."""
    macs: float
    """Multiplications that are left where events are followed: real inputs, and one a spiking neuron and step."""
    additions: float
    """A weight for each spike that it is reached by."""
    spike_rate: float | None
    """Spikes a hidden neuron and step; None where nothing spikes."""


@torch.no_grad()
def operations(network: EventNetwork, outputs: Outputs) -> Operations:
    """Counted from what the layers sent for a batch of binary frames."""
    dense = macs = additions = 0.0
    is_spiking = network.config.kind == "snn"
    names = list(network.layers)
    sent = [outputs.sent[name] for name in names] + [outputs.each_TBK]
    spikes = neurons = 0.0
    for number, name in enumerate(names):
        layer, x_TB, y_TB = network.layers[name], sent[number], sent[number + 1]
        steps, samples = x_TB.shape[:2]
        units = y_TB[0, 0].numel()
        feed = getattr(layer, "feed", layer)
        if isinstance(layer, LifLayer):
            macs += steps * units  # the decay
            if number + 1 < len(names):
                spikes += float(y_TB.sum()) / samples
                neurons += steps * units
        if isinstance(feed, nn.AvgPool2d):
            additions += float(x_TB.sum()) / samples if is_spiking else steps * x_TB[0, 0].numel()
            continue
        products = steps * _products(feed, y_TB)
        dense += products
        if is_spiking or number == 0:
            additions += float(x_TB.sum()) / samples * _fan_out(feed)
        else:
            macs += products
        recur = getattr(layer, "recur", None)
        if isinstance(recur, nn.Module):
            dense += steps * _products(recur, y_TB)
            macs += steps * _products(recur, y_TB)
        if isinstance(layer, LstmLayer):
            macs += 3 * steps * units  # gates times what they let through
    return Operations(dense, macs, additions, spikes / neurons if neurons else None)


def _products(feed: nn.Module, y_TB: Tensor) -> int:
    """Weights that one step of one sample is multiplied by."""
    assert isinstance(feed, (nn.Linear, nn.Conv2d))
    positions = y_TB.shape[-2] * y_TB.shape[-1] if isinstance(feed, nn.Conv2d) else 1
    return feed.weight.numel() * positions


def _fan_out(feed: nn.Module) -> int:
    """Weights that one input reaches."""
    assert isinstance(feed, (nn.Linear, nn.Conv2d))
    return feed.weight.numel() // feed.weight.shape[1]
