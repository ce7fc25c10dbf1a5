"""The product in plain PyTorch: the definition that all implementations meet.

Shape legend: N rows, I inputs, O outputs. The sums are integers and exact, so implementations agree in every bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_blocks.kernels.int8_linear import layout


def forward(
    high_NI: Tensor, low_NI: Tensor, step_N: Tensor, codes_OI: Tensor, scale_O: Tensor, dtype: torch.dtype
) -> Tensor:
    """``(x W^T) * (step * scale)``, x = 256 high + low and W = codes - 128: (N, O) in ``dtype``.

    high, low: int8 (N, I). step: float32 (N,), what one of x is worth. codes: uint8 (O, I). scale: float32 (O,). The
    sum (below 2^53 in size) is rounded to float32, and the product with ``step * scale`` rounded to ``dtype``.
    """
    weight_OI = (codes_OI.to(torch.int16) - layout.OFFSET).to(torch.int8)
    sums_NO = 256 * _sums(high_NI, weight_OI) + _sums(low_NI, weight_OI)
    return (sums_NO.to(torch.float32) * (step_N[:, None] * scale_O)).to(dtype)


def _sums(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """Int64 ``x W^T`` of int8 matrices. A CPU multiplies them as they are; elsewhere doubles are as exact."""
    if x_NI.is_cpu and x_NI.numel() and weight_OI.numel() and x_NI.shape[1] > 1:  # wrong for one (torch 2.11)
        return torch._int_mm(x_NI, weight_OI.t()).to(torch.int64)
    return (x_NI.double() @ weight_OI.double().t()).to(torch.int64)
