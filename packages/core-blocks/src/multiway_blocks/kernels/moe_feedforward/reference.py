"""Experts' feed-forward networks over sorted rows in plain PyTorch: the definition that all implementations meet.

Shape legend: R rows sorted by expert, N experts, E hidden size, I inner size, J = I, or 2 I where gated (gate before
up). Products are in the data type of ``x``, and so is what lies between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
}
# (what flows into the result, the argument) -> what flows into the argument
_DERIVATIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gelu": torch.ops.aten.gelu_backward,
    "relu": lambda grad, x: grad * (x > 0),
    "silu": torch.ops.aten.silu_backward,
}


class Experts(NamedTuple):
    """What all experts' networks are made of."""

    up_NJE: Tensor
    up_bias_NJ: Tensor | None
    down_NEI: Tensor
    down_bias_NE: Tensor | None
    activation: str
    gated: bool


def forward(x_RE: Tensor, counts_N: Tensor, experts: Experts) -> Tensor:
    """``down(activation(up(x)))``, gated: ``down(activation(gate(x)) * up(x))``, each row by its expert: (R, E).

    counts: int64 (N,), rows of each expert, R together.
    """
    parts = []
    for expert, rows in enumerate(x_RE.split(counts_N.tolist())):
        inner = _inner(_linear(rows, experts.up_NJE[expert], _of(experts.up_bias_NJ, expert)), experts)
        parts.append(_linear(inner, experts.down_NEI[expert], _of(experts.down_bias_NE, expert)))
    return torch.cat(parts)


def backward(grad_RE: Tensor, x_RE: Tensor, counts_N: Tensor, experts: Experts) -> tuple[Tensor, ...]:
    """Gradients of x, up, up's bias, down and down's bias; those of a bias that is None are empty.

    What lies between is computed again: per expert dA = dY W_down, dH = dA through the activation, dX = dH W_up, and
    the weights' are dY^T A and dH^T X.
    """
    grad_x = torch.empty_like(x_RE)
    grad_up, grad_down = torch.zeros_like(experts.up_NJE), torch.zeros_like(experts.down_NEI)
    biases = [
        x_RE.new_zeros(0 if bias is None else bias.shape)
        for bias in (experts.up_bias_NJ, experts.down_bias_NE)
    ]
    start = 0
    for expert, count in enumerate(counts_N.tolist()):
        part = slice(start, start + count)
        start += count
        if not count:
            continue
        x, grad = x_RE[part], grad_RE[part]
        before = _linear(x, experts.up_NJE[expert], _of(experts.up_bias_NJ, expert))
        grad_before = _inner_backward(grad @ experts.down_NEI[expert], before, experts)
        grad_x[part] = grad_before @ experts.up_NJE[expert]
        grad_up[expert] = grad_before.t() @ x
        grad_down[expert] = grad.t() @ _inner(before, experts)
        for bias, gradient in zip(biases, (grad_before, grad), strict=True):
            if bias.numel():
                bias[expert] = gradient.sum(0)
    return grad_x, grad_up, biases[0], grad_down, biases[1]


def _inner(before_RJ: Tensor, experts: Experts) -> Tensor:
    activation = ACTIVATIONS[experts.activation]
    if not experts.gated:
        return activation(before_RJ)
    gate, up = before_RJ.chunk(2, dim=-1)
    return activation(gate) * up


def _inner_backward(grad_RI: Tensor, before_RJ: Tensor, experts: Experts) -> Tensor:
    derivative = _DERIVATIVES[experts.activation]
    if not experts.gated:
        return derivative(grad_RI, before_RJ)
    gate, up = before_RJ.chunk(2, dim=-1)
    grad_gate = derivative(grad_RI * up, gate)
    return torch.cat([grad_gate, grad_RI * ACTIVATIONS[experts.activation](gate)], dim=-1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return functional.linear(x, weight, bias)


def _of(bias: Tensor | None, expert: int) -> Tensor | None:
    return None if bias is None else bias[expert]
