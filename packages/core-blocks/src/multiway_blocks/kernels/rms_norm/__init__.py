"""RMSNorm (arXiv 1910.07467) with an optional fused residual: y = s / rms(s) * weight, s = x + residual."""

from __future__ import annotations

from typing import overload

import torch
from multiway_core.errors import InputError
from torch import Tensor

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
        raise InputError(f"rms_norm: x is {_name(x)}, expected floating point (..., D) with D > 0")
    if weight is not None:
        _check("weight", weight, x, x.shape[-1:])
    if residual is None:
        if USE_REFERENCE:
            return reference.forward(x, None, weight, eps)[0]
        return operators.rms_norm(x, weight, eps)[0]
    _check("residual", residual, x, x.shape)
    if USE_REFERENCE:
        return reference.forward(x, residual, weight, eps)[:2]
    return operators.add_rms_norm(x, residual, weight, eps)[:2]


def _check(name: str, tensor: Tensor, x: Tensor, shape: torch.Size) -> None:
    if tensor.shape != shape or not tensor.is_floating_point() or tensor.device != x.device:
        expected = f"floating point {tuple(shape)} on {x.device}"
        raise InputError(f"rms_norm: {name} is {_name(tensor)}, expected {expected}")


def _name(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
