"""Products of int8 rows with a ternary matrix of two bits a weight: the linear maps of BitNet b1.58."""

from __future__ import annotations

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.arguments import check, describe
from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.ternary_linear import layout, operators, reference

__all__ = ["has_kernel", "ternary_linear"]


def ternary_linear(x: Tensor, step: Tensor, packed: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """``(x W^T) * (step * scale)`` with integer sums (arXiv 2402.17764, section 2): the same bits on every device.

    There are no derivatives: training computes with the weights in floating point (``multiway_blocks.bitlinear``).

    Args:
        x: (..., I) int8.
        step: (..., 1) float32, what one of `x` is worth in each row.
        packed: (O, P) uint8, W as `layout.pack` packs it.
        scale: (O,) float32, what one of W is worth in each output.
        dtype: of the result, floating point.

    Returns:
        (..., O) in `dtype`.

    Raises:
        InputError: shapes, data types or devices do not fit.
    """
    if x.ndim == 0 or x.dtype != torch.int8:
        raise InputError(f"ternary_linear: x is {describe(x)}, expected torch.int8 (..., I)")
    check("ternary_linear", "step", step, x, (*x.shape[:-1], 1), torch.float32)
    outputs = packed.shape[0] if packed.ndim else 0
    check("ternary_linear", "packed", packed, x, (outputs, layout.packed_size(x.shape[-1])), torch.uint8)
    check("ternary_linear", "scale", scale, x, (outputs,), torch.float32)
    if not dtype.is_floating_point:
        raise InputError(f"ternary_linear: dtype is {dtype}, expected floating point")
    rows = x.reshape(-1, x.shape[-1]) if x.shape[-1] else x.new_empty(x.shape[:-1].numel(), 0)
    product = reference.forward if USE_REFERENCE else operators.ternary_linear
    return product(rows, step.reshape(-1), packed, scale, dtype).view(*x.shape[:-1], outputs)


def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether machine code multiplies the packed matrix here; else the definition unpacks it at every call."""
    return not USE_REFERENCE and operators.has_kernel(device, dtype)
