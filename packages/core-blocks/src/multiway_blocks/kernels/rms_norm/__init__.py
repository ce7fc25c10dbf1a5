"""RMSNorm (arXiv 1910.07467) with an optional fused residual: y = s / rms(s) * weight, s = x + residual."""

from __future__ import annotations

from typing import overload

from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.rms_norm import operators, reference

__all__ = ["rms_norm"]


@overload
def rms_norm(x: Tensor, weight: Tensor | None, eps: float, residual: None = None) -> Tensor: ...
@overload
def rms_norm(x: Tensor, weight: Tensor | None, eps: float, residual: Tensor) -> tuple[Tensor, Tensor]: ...


def rms_norm(
    x: Tensor, weight: Tensor | None, eps: float, residual: Tensor | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """Normalise by the root mean square over the last dimension, after adding a residual if one is given.

    Statistics are in float32 (float64 for float64 input). Autocast does not change data types here. There are
    first derivatives only, unless `MULTIWAY_KERNELS=reference` is set.

    Args:
        x: (..., D), floating point.
        weight: (D,), floating point of any precision, or None for no scale.
        eps: added to the mean square.
        residual: same shape as `x`, floating point; its data type may be wider (a float32 residual stream
            beside bfloat16 branches).

    Returns:
        y (..., D) in the data type of `x`; with a residual the pair (y, x + residual), where the sum has the
        wider of the two data types and is rounded to it before the norm sees it.

    Raises:
        InputError: shapes or devices do not fit, D is 0, or an argument is not floating point.
    """
    if x.ndim == 0 or x.shape[-1] == 0 or not x.is_floating_point():
        raise InputError(f"rms_norm: x is {describe(x)}, expected floating point (..., D) with D > 0")
    if weight is not None:
        check("rms_norm", "weight", weight, x, x.shape[-1:], None)
    if residual is None:
        if USE_REFERENCE:
            return reference.forward(x, None, weight, eps)[0]
        return operators.rms_norm(x, weight, eps)[0]
    check("rms_norm", "residual", residual, x, x.shape, None)
    if USE_REFERENCE:
        return reference.forward(x, residual, weight, eps)[:2]
    return operators.add_rms_norm(x, residual, weight, eps)[:2]
