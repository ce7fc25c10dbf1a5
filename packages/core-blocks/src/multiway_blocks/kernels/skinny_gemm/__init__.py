"""Products of few rows with a large matrix, y = x W^T + b: what a decoding step spends its time on."""

from __future__ import annotations

from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.skinny_gemm import operators, reference

__all__ = ["skinny_gemm"]


def skinny_gemm(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weight^T + bias``, as ``nn.functional.linear``, reading the matrix once for all rows.

    Meant for 1 to 16 rows; any number is right. Sums are in float32 (float64 for float64 input) and each output is
    rounded once. A row's result does not depend on the other rows, and on a CPU not on the number of threads.
    Autocast does not change data types here.

    Args:
        x: (..., I), floating point.
        weight: (O, I), of the same data type.
        bias: (O,), of the same data type, or None.

    Returns:
        (..., O) in the data type of `x`.

    Raises:
        InputError: shapes, data types or devices do not fit, or `x` is not floating point.
    """
    if x.ndim == 0 or not x.is_floating_point():
        raise InputError(f"skinny_gemm: x is {describe(x)}, expected floating point (..., I)")
    fits = weight.ndim == 2 and weight.shape[1] == x.shape[-1]
    if not fits or weight.dtype != x.dtype or weight.device != x.device:
        expected = f"{x.dtype} (O, {x.shape[-1]}) on {x.device}"
        raise InputError(f"skinny_gemm: weight is {describe(weight)}, expected {expected}")
    if bias is not None:
        check("skinny_gemm", "bias", bias, x, weight.shape[:1], x.dtype)
    rows = x.reshape(-1, x.shape[-1]) if x.shape[-1] else x.new_empty(x.shape[:-1].numel(), 0)
    y = (reference.forward if USE_REFERENCE else operators.skinny_gemm)(rows, weight, bias)
    return y.view(*x.shape[:-1], weight.shape[0])
