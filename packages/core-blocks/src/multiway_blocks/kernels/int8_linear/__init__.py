"""Products with a matrix of one byte a weight: the output matrix of a language model while it decodes."""

from __future__ import annotations

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.dispatch import USE_REFERENCE
from multiway_blocks.kernels.int8_linear import layout, operators, reference

__all__ = ["int8_linear"]


def int8_linear(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """``x W^T`` with W = (codes - 128) scale, of integer sums: the same bits on every device.

    x is rounded to 16 bits, relative to the largest of its row. Meant for few rows; any number is right. There are no
    derivatives.

    Args:
        x: (..., I), floating point.
        codes: (O, I) uint8, as `layout.quantize` gives them.
        scale: (O,) float32, what one of W is worth in each output.

    Returns:
        (..., O) in the data type of `x`.

    Raises:
        InputError: shapes, data types or devices do not fit.
    """
    if x.ndim == 0 or x.shape[-1] == 0 or not x.is_floating_point():
        raise InputError(f"int8_linear: x is {_name(x)}, expected floating point (..., I) with I > 0")
    outputs = codes.shape[0] if codes.ndim else 0
    _check("codes", codes, x, torch.uint8, (outputs, x.shape[-1]))
    _check("scale", scale, x, torch.float32, (outputs,))
    rows = x.reshape(-1, x.shape[-1])
    if USE_REFERENCE:
        y = reference.forward(*layout.quantize_rows(rows), codes, scale, x.dtype)
    else:
        y = operators.int8_linear(rows, codes, scale)
    return y.view(*x.shape[:-1], outputs)


def _check(name: str, tensor: Tensor, x: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype != dtype or tensor.device != x.device:
        expected = f"{dtype} {shape} on {x.device}"
        raise InputError(f"int8_linear: {name} is {_name(tensor)}, expected {expected}")


def _name(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
