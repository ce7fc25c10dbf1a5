"""Products with a matrix in blocks of 32 weights of four or eight bits: GGUF's types, as they are stored."""

from __future__ import annotations

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.block_linear import layout, operators, reference
from multiway_blocks.kernels.dispatch import USE_REFERENCE

__all__ = ["block_linear"]


def block_linear(x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """``x W^T`` with W = scale code + offset, a scale and an offset for each 32 weights of an output.

    On a CPU x is rounded to 16 bits a number for few rows, in blocks of 32 with a step of their own.
    There are no derivatives.

    Args:
        x: (..., I), floating point, I a multiple of 32.
        codes: (O, I) uint8, or (O, I / 2) with two codes in a byte (`layout`).
        scale: (O, I / 32) float32.
        offset: (O, I / 32) float32.

    Returns:
        (..., O) in the data type of `x`.

    Raises:
        InputError: shapes, data types or devices do not fit.
    """
    if x.ndim == 0 or x.shape[-1] == 0 or x.shape[-1] % layout.BLOCK or not x.is_floating_point():
        raise InputError(
            f"block_linear: x is {_name(x)}, expected floating point (..., I) with I a multiple of 32"
        )
    inputs, outputs = x.shape[-1], codes.shape[0] if codes.ndim else 0
    widths = (inputs, inputs // 2)
    if (
        codes.dtype != torch.uint8
        or codes.ndim != 2
        or codes.shape[1] not in widths
        or codes.device != x.device
    ):
        raise InputError(
            f"block_linear: codes is {_name(codes)}, expected uint8 (O, {widths[0]} or {widths[1]}) on {x.device}"
        )
    for name, tensor in (("scale", scale), ("offset", offset)):
        shape = (outputs, inputs // layout.BLOCK)
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32 or tensor.device != x.device:
            raise InputError(
                f"block_linear: {name} is {_name(tensor)}, expected torch.float32 {shape} on {x.device}"
            )
    rows = x.reshape(-1, inputs)
    multiply = reference.forward if USE_REFERENCE else operators.block_linear
    return multiply(rows, codes, scale, offset).view(*x.shape[:-1], outputs)


def _name(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
