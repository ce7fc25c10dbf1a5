"""The feed-forward networks of a mixture's experts over rows sorted by expert, each block of rows in one go."""

from __future__ import annotations

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.moe_feedforward import operators, reference

__all__ = ["has_kernel", "moe_feedforward"]


def moe_feedforward(
    x: Tensor,
    counts: Tensor,
    up: Tensor,
    down: Tensor,
    *,
    activation: str,
    gated: bool = False,
    up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
) -> Tensor:
    """``down(activation(up(x)))``, gated ``down(activation(gate(x)) * up(x))``, each row by its expert.

    There are first derivatives only, unless `MULTIWAY_KERNELS=reference` is set; the backward pass computes what lies
    between the two products again.

    Args:
        x: (R, E) floating point, rows sorted by expert.
        counts: (N,) int64, rows of each expert, R together.
        up: (N, I, E), gated (N, 2 I, E) with the gate first; down: (N, E, I).
        activation: "gelu", "relu" or "silu".
        up_bias, down_bias: (N, I) or (N, 2 I), and (N, E), or None. All of the data type of `x`.

    Returns:
        (R, E) in the data type of `x`.

    Raises:
        InputError: shapes, data types or devices do not fit. Counts are not added up on a GPU: none may be
            negative, and R must be their sum.
    """
    if x.ndim != 2 or not x.is_floating_point():
        raise InputError(f"moe_feedforward: x is {describe(x)}, expected floating point (R, E)")
    if activation not in reference.ACTIVATIONS:
        raise InputError(
            f"moe_feedforward: activation is {activation!r}, expected one of {sorted(reference.ACTIVATIONS)}"
        )
    if counts.ndim != 1 or counts.dtype != torch.int64 or counts.device != x.device:
        raise InputError(f"moe_feedforward: counts is {describe(counts)}, expected torch.int64 (N,)")
    if x.is_cpu and (bool((counts < 0).any()) or int(counts.sum()) != len(x)):
        raise InputError(f"moe_feedforward: counts add up to {int(counts.sum())}, expected {len(x)} rows")
    N, E, inner = len(counts), x.shape[1], down.shape[-1] if down.ndim else 0
    first = 2 * inner if gated else inner
    check("moe_feedforward", "down", down, x, (N, E, inner), x.dtype)
    check("moe_feedforward", "up", up, x, (N, first, E), x.dtype)
    for name, bias, size in (("up_bias", up_bias, first), ("down_bias", down_bias, E)):
        if bias is not None:
            check("moe_feedforward", name, bias, x, (N, size), x.dtype)
    if USE_REFERENCE:
        experts = reference.Experts(up, up_bias, down, down_bias, activation, gated)
        return reference.forward(x, counts, experts)
    y: Tensor = operators.moe_feedforward(x, counts, up, up_bias, down, down_bias, activation, gated)
    return y


def has_kernel(x: Tensor) -> bool:
    """Whether machine code takes such rows (R, E); else it is products of PyTorch, an expert at a time."""
    return not USE_REFERENCE and operators.has_kernel(x)
