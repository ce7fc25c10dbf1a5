"""The product in plain PyTorch: the definition that all implementations meet.

Shape legend: N rows, I inputs, O outputs. Sums are in float32 (float64 for float64 input); each output is rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor


def forward(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``x weight^T + bias``: (N, O) in the data type of ``x``."""
    wide = torch.promote_types(x_NI.dtype, torch.float32)
    y_NO = x_NI.to(wide) @ weight_OI.to(wide).t()
    if bias_O is not None:
        y_NO = y_NO + bias_O.to(wide)
    return y_NO.to(x_NI.dtype)


def backward(
    grad_NO: Tensor, x_NI: Tensor, weight_OI: Tensor, needed: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients with respect to x, weight and bias, as far as they are ``needed``; dx = g W, dW = g^T x, db = sum g.

    Matrix products of PyTorch, in the data type of the gradient: these read and write whole matrices in any case.
    """
    return (
        grad_NO @ weight_OI if needed[0] else None,
        grad_NO.t() @ x_NI if needed[1] else None,
        grad_NO.sum(0) if needed[2] else None,
    )
