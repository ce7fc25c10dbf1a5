"""Modulated RMSNorm in plain PyTorch: the definition that all implementations meet.

AdaLN (DiT, arXiv 2212.09748, section 3.2; with RMSNorm in LatentLM's head, arXiv 2412.08635, section 2.3). Shape
legend: N rows of D features, M modulations, each of N / M neighbouring rows. Statistics and products are in float32
(float64 for float64 input); each output is rounded once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Gradients(NamedTuple):
    """What has no counterpart among the arguments is empty; of modulations and weight in float32 (float64)."""

    total_ND: Tensor
    """Of the stream: of the residual, or of x where there is none."""
    x_ND: Tensor
    """Of the gated x."""
    gate_MD: Tensor
    shift_MD: Tensor
    scale_MD: Tensor
    weight_D: Tensor


def forward(
    x_ND: Tensor,
    gate_MD: Tensor | None,
    residual_ND: Tensor | None,
    weight_D: Tensor | None,
    shift_MD: Tensor,
    scale_MD: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """y = norm(s) weight (1 + scale) + shift with s = residual + gate x, or s = x where these two are None.

    Returns y (N, D), s (N, D), both in the data type of x (the norm sees s as it was rounded; s is x itself without a
    residual), and 1 / rms (N, 1).
    """
    wide = torch.promote_types(x_ND.dtype, torch.float32)
    total_ND = x_ND
    if gate_MD is not None and residual_ND is not None:
        total = residual_ND.to(wide) + _by_row(gate_MD, len(x_ND), wide) * x_ND.to(wide)
        total_ND = total.to(x_ND.dtype)
    stream = total_ND.to(wide)
    inverse_rms_N1 = torch.rsqrt(stream.square().mean(-1, keepdim=True) + eps)
    y = stream * inverse_rms_N1
    if weight_D is not None:
        y = y * weight_D.to(wide)
    y = y * (1 + _by_row(scale_MD, len(x_ND), wide)) + _by_row(shift_MD, len(x_ND), wide)
    return y.to(x_ND.dtype), total_ND, inverse_rms_N1


def backward(
    grad_y_ND: Tensor,
    grad_total_ND: Tensor | None,
    total_ND: Tensor,
    x_ND: Tensor | None,
    gate_MD: Tensor | None,
    weight_D: Tensor | None,
    scale_MD: Tensor,
    inverse_rms_N1: Tensor,
) -> Gradients:
    """Gradients of `forward`; total: s. x and gate: None where there was no residual.

    With n = s / rms and h = grad_y (1 + scale) weight: ds = (h - n mean(h n)) / rms + grad_total, and from it dx = ds
    gate, dgate = sum of ds x; dshift = sum of grad_y, dscale = sum of grad_y n weight, each over the rows of a
    modulation; dweight = sum over all rows of grad_y (1 + scale) n. What is summed is not rounded before.
    """
    wide, N, M = inverse_rms_N1.dtype, len(total_ND), len(scale_MD)
    grad = grad_y_ND.to(wide)
    normed = total_ND.to(wide) * inverse_rms_N1
    weight = normed.new_ones(1) if weight_D is None else weight_D.to(wide)
    factor = 1 + _by_row(scale_MD, N, wide)
    h = grad * factor * weight
    ds = (h - normed * (h * normed).mean(-1, keepdim=True)) * inverse_rms_N1
    if grad_total_ND is not None:
        ds = ds + grad_total_ND.to(wide)
    empty = normed.new_empty(0)
    dx, dgate = empty.to(total_ND.dtype), empty
    if x_ND is not None and gate_MD is not None:
        dx = (ds * _by_row(gate_MD, N, wide)).to(x_ND.dtype)
        dgate = _by_modulation(ds * x_ND.to(wide), M)
    dweight = empty if weight_D is None else (grad * factor * normed).sum(0)
    dscale = _by_modulation(grad * normed * weight, M)
    return Gradients(ds.to(total_ND.dtype), dx, dgate, _by_modulation(grad, M), dscale, dweight)


def _by_row(x_MD: Tensor, N: int, wide: torch.dtype) -> Tensor:
    return x_MD.to(wide).repeat_interleave(N // max(1, len(x_MD)), 0)


def _by_modulation(x_ND: Tensor, M: int) -> Tensor:
    return x_ND.view(M, len(x_ND) // max(1, M), x_ND.shape[1]).sum(1)
