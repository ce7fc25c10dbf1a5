"""The product in plain PyTorch: the definition that all implementations meet, up to the order of its sums."""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_blocks.kernels.block_linear import layout


def forward(x_NI: Tensor, codes: Tensor, scale: Tensor, offset: Tensor, outputs: int) -> Tensor:
    """``x W^T``, x rounded to 8 bits a number in blocks of 32: (N, O) in the data type of x, of float32 sums."""
    whole_NI, step_NG = layout.quantize_rows(x_NI)
    rounded_NI = (whole_NI.unflatten(-1, (-1, layout.BLOCK)) * step_NG[..., None]).flatten(-2)
    return (rounded_NI @ layout.dequantize(codes, scale, offset, outputs, torch.float32).t()).to(x_NI.dtype)
