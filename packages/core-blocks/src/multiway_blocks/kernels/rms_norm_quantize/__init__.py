"""RMSNorm fused with the quantisation of its result to int8, row by row: what BitNet's linear maps read."""

from __future__ import annotations

from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.rms_norm_quantize import operators, reference

__all__ = ["rms_norm_quantize"]


def rms_norm_quantize(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Normalise by the root mean square over the last dimension and quantise to int8 by each row's largest value.

    There are no derivatives (``multiway_blocks.bitlinear`` trains with a straight-through estimate).

    Args:
        x: (..., D), floating point, D > 0.
        weight: (D,) floating point of any precision, or None for no scale.
        eps: added to the mean square.

    Returns:
        values (..., D) int8, and step (..., 1) float32 (float64 for float64 input): the norm is ``values * step`` up
        to half a step.

    Raises:
        InputError: shapes or devices do not fit, D is 0, or an argument is not floating point.
    """
    if x.ndim == 0 or x.shape[-1] == 0 or not x.is_floating_point():
        raise InputError(
            f"rms_norm_quantize: x is {describe(x)}, expected floating point (..., D) with D > 0"
        )
    if weight is not None:
        check("rms_norm_quantize", "weight", weight, x, x.shape[-1:], None)
    function = reference.forward if USE_REFERENCE else operators.rms_norm_quantize
    values, step = function(x.reshape(-1, x.shape[-1]), weight, eps)
    return values.view(x.shape), step.view(*x.shape[:-1], 1)
