"""Products with a matrix in blocks of 32 weights of four or eight bits: GGUF's types, as they are stored."""

from __future__ import annotations

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.block_linear import layout, operators, reference
from multiway_blocks.kernels.dispatch import USE_REFERENCE

__all__ = ["block_linear"]


def block_linear(x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor, outputs: int) -> Tensor:
    """``x W^T`` with W = scale code + offset, a scale and an offset for each 32 weights of an output.

    On a CPU x is rounded to 8 bits a number, in blocks of 32 with a step of their own. There are no derivatives.

    Args:
        x: (..., I), floating point, I a multiple of 32.
        codes: uint8 (P, I / 32, 8, 16, 4), or (P, I / 32, 4, 16, 4) with two codes in a byte (`layout`).
        scale: (P, I / 32, 16) float16 or float32.
        offset: as ``scale``.
        outputs: O, at most 16 P.

    Returns:
        (..., O) in the data type of `x`.

    Raises:
        InputError: shapes, data types or devices do not fit.
    """
    if x.ndim == 0 or x.shape[-1] == 0 or x.shape[-1] % layout.BLOCK or not x.is_floating_point():
        raise InputError(
            f"block_linear: x is {_name(x)}, expected floating point (..., I) with I a multiple of 32"
        )
    inputs = x.shape[-1]
    blocks, panels = inputs // layout.BLOCK, -(-outputs // layout.PANEL)
    shapes = [(panels, blocks, count, layout.PANEL, 4) for count in (8, 4)]
    if codes.dtype != torch.uint8 or tuple(codes.shape) not in shapes or codes.device != x.device:
        raise InputError(
            f"block_linear: codes is {_name(codes)}, expected uint8 {shapes[0]} or {shapes[1]} on {x.device}"
        )
    kinds = (torch.float16, torch.float32)
    for name, tensor in (("scale", scale), ("offset", offset)):
        shape = (panels, blocks, layout.PANEL)
        fits = tuple(tensor.shape) == shape and tensor.dtype in kinds and tensor.dtype == scale.dtype
        if not fits or tensor.device != x.device:
            raise InputError(
                f"block_linear: {name} is {_name(tensor)}, expected float16 or float32 {shape} on {x.device}"
            )
    rows = x.reshape(-1, inputs)
    multiply = reference.forward if USE_REFERENCE else operators.block_linear
    return multiply(rows, codes, scale, offset, outputs).view(*x.shape[:-1], outputs)


def _name(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
