"""RMSNorm in plain PyTorch: the definition (arXiv 1910.07467, equation 4) that all implementations meet.

Statistics and products are in float32 (float64 for float64 input); each output is rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor


def forward(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise s = x + residual, or x: y = s / sqrt(mean(s**2) + eps) * weight over the last dimension.

    The norm sees `s` after it was rounded to its data type, so fused and unfused models agree.

    Args:
        x: (..., D).
        residual: (..., D) or None.
        weight: (D,) or None.
        eps: added to the mean square.

    Returns:
        y (..., D) in the data type of `x`; s (..., D) in the wider data type of `x` and `residual` (`x`
        itself without a residual); 1 / rms (..., 1) in the precision of the statistics.
    """
    total = x if residual is None else x + residual
    wide = total.to(torch.promote_types(total.dtype, torch.float32))
    inverse_rms = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    y = wide * inverse_rms
    if weight is not None:
        y = y * weight.to(wide.dtype)
    return y.to(x.dtype), total, inverse_rms


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor | None, inverse_rms: Tensor, grad_x: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gradients of `forward` with respect to what was normalised, here `x`, and to the weight.

    With n = x / rms and g = grad_y * weight: dx = (g - n * mean(g * n)) / rms, and dweight is the sum over
    rows of grad_y * n.

    Args:
        grad_y: (..., D).
        x: (..., D), what was normalised (the sum, where there was a residual).
        weight: (D,) or None.
        inverse_rms: (..., 1) from `forward`.
        grad_x: (..., D), what else flows into `x`, by the residual stream, or None. Added before rounding.

    Returns:
        dx (..., D) in the data type of `x`; dweight (D,) in the precision of the statistics, empty without
        a weight.
    """
    wide = inverse_rms.dtype
    gradient = grad_y.to(wide)
    normed = x.to(wide) * inverse_rms
    if weight is None:
        grad_weight = gradient.new_empty(0)
    else:
        grad_weight = (gradient * normed).reshape(-1, x.shape[-1]).sum(0)
        gradient = gradient * weight.to(wide)
    dx = (gradient - normed * (gradient * normed).mean(-1, keepdim=True)) * inverse_rms
    if grad_x is not None:
        dx = dx + grad_x.to(wide)
    return dx.to(x.dtype), grad_weight
