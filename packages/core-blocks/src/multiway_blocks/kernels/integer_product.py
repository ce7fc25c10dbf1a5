"""The exact product of int8 matrices, of which the definitions of quantised operations are made."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def integer_product(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """Int32 ``x W^T`` (N, O) of int8 matrices.

    A CPU multiplies them as they are where that is exact; elsewhere the product of doubles is.
    """
    fits = (
        x_NI.is_cpu and x_NI.numel() and weight_OI.numel() and x_NI.shape[1] > 1
    )  # wrong for one (torch 2.11)
    if fits and _processor_is_exact():
        return torch._int_mm(x_NI, weight_OI.t())
    return (x_NI.double() @ weight_OI.double().t()).int()


@functools.cache
def _processor_is_exact() -> bool:
    """Without VNNI (x86 processors that have AVX2 alone) oneDNN adds pairs of products in 16 bits, which overflow."""
    largest = torch.full((32, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest.t()) == 64 * 127 * 127).all())
