"""The ternary product in plain PyTorch: the definition that all implementations meet.

Shape legend: N rows, I inputs, O outputs, P bytes of a packed row (``layout.py``). The sums are integers and exact, so
implementations agree in every bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_blocks.kernels.ternary_linear import layout


def forward(x_NI: Tensor, step_N: Tensor, packed_OP: Tensor, scale_O: Tensor, dtype: torch.dtype) -> Tensor:
    """``(x W^T) * (step * scale)``: (N, O) in ``dtype``.

    x: int8 (N, I). step: float32 (N,), what one of x is worth. packed: uint8 (O, P). scale: float32 (O,). The sum is
    converted to float32 (exactly, up to 132,000 inputs) and the product with ``step * scale`` rounded to ``dtype``.
    """
    return scaled(sums(x_NI, layout.unpack(packed_OP, x_NI.shape[1])), step_N, scale_O, dtype)


def sums(x_NI: Tensor, ternary_OI: Tensor) -> Tensor:
    """Int32 ``x W^T`` (N, O) of int8 matrices, W ternary.

    A processor multiplies int8 matrices as they are (exactly, as sums of two such products fit 16 bits); elsewhere the
    product of doubles is as exact.
    """
    if (
        x_NI.is_cpu and x_NI.numel() and ternary_OI.numel() and x_NI.shape[1] > 1
    ):  # wrong for one (torch 2.11)
        return torch._int_mm(x_NI, ternary_OI.t())
    return (x_NI.double() @ ternary_OI.double().t()).int()


def scaled(sums_NO: Tensor, step_N: Tensor, scale_O: Tensor, dtype: torch.dtype) -> Tensor:
    """The integers in ``dtype``, times what one of them is worth."""
    return (sums_NO.float() * (step_N[:, None] * scale_O)).to(dtype)
