"""One time step of the three neurons that are compared (He et al. 2020, arXiv 2005.02183, sections 2.1 and 2.2).

The steps do not know whether their input came from a matrix or from a convolution: all shapes are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LifConfig:
    """A leaky integrate-and-fire neuron.

    decay: what is left of the potential after a step, exp(-dt / tau); the paper's scripts keep 0.3 at every dt.
    width: half width `a` of the rectangle that stands for the derivative of the spike.
    """

    decay: float = 0.3
    threshold: float = 0.3
    width: float = 0.25


class _Spike(torch.autograd.Function):
    """Heaviside step; its derivative is a rectangle of area 1, 1 / (2a) where |x| < a."""

    @staticmethod
    def forward(ctx: Any, above: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(above)
        ctx.width = width
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        return gradients[0] * (above.abs() < ctx.width) / (2 * ctx.width), None


def spike(above: Tensor, width: float) -> Tensor:
    """1 where the potential lies above the threshold (`above` > 0), else 0."""
    return _Spike.apply(above, width)


def lif_step(current: Tensor, potential: Tensor, spikes: Tensor, config: LifConfig) -> tuple[Tensor, Tensor]:
    """(potential, spikes) after one step: u = decay · u · (1 - o) + I, o = [u > threshold].

    The reset is hard: a neuron that has just fired starts from nothing. Gradients flow through it.
    """
    potential = config.decay * potential * (1 - spikes) + current
    return potential, spike(potential - config.threshold, config.width)


def rnn_step(fed: Tensor, recurrent: Tensor) -> Tensor:
    """h = tanh(W1 x + W2 h + b), from `fed` = W1 x + b and `recurrent` = W2 h."""
    return torch.tanh(fed + recurrent)


def lstm_step(fed: Tensor, recurrent: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """(hidden, cell) after one step, gates in torch's order (input, forget, cell, output) along dimension 1."""
    into, forget, new, out = (fed + recurrent).chunk(4, dim=1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(new)
    return torch.sigmoid(out) * torch.tanh(cell), cell
