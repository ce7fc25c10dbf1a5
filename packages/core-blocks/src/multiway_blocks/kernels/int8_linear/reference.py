"""The product in plain PyTorch: the definition that all implementations meet.

Shape legend: N rows, I inputs, O outputs. The sums are integers and exact, so implementations agree in every bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_blocks.kernels.int8_linear import layout
from multiway_blocks.kernels.integer_product import integer_product


def forward(
    high_NI: Tensor, low_NI: Tensor, step_N: Tensor, codes_OI: Tensor, scale_O: Tensor, dtype: torch.dtype
) -> Tensor:
    """``(x W^T) * (step * scale)``, x = 256 high + low and W = codes - 128: (N, O) in ``dtype``.

    high, low: int8 (N, I). step: float32 (N,), what one of x is worth. codes: uint8 (O, I). scale: float32 (O,). The
    sum (below 2^53 in size) is rounded to float32, and the product with ``step * scale`` rounded to ``dtype``.
    """
    weight_OI = (codes_OI.to(torch.int16) - layout.OFFSET).to(torch.int8)
    high_NO, low_NO = (integer_product(x_NI, weight_OI).to(torch.int64) for x_NI in (high_NI, low_NI))
    sums_NO = 256 * high_NO + low_NO
    return (sums_NO.to(torch.float32) * (step_N[:, None] * scale_O)).to(dtype)
