"""The segmented scan on GPUs: one program a segment and block of features, rows of the segment one after another.

A window leaves some 10 to 200 rows a segment and tens of thousands of segments, so the GPU is full without splitting
a segment. Every row is read and written once: the floor is memory bandwidth. The state is kept in registers, in
float32 (float64 for float64). The formulas are in reference.py.

Legend: R rows, S segments, D features.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_MAX_BLOCK = 256


@triton.jit
def forward_kernel(u_ptr, g_ptr, offsets_ptr, initial_ptr, h_ptr, D: tl.constexpr, BLOCK: tl.constexpr):
    segment = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < D
    row = tl.load(offsets_ptr + segment)
    end = tl.load(offsets_ptr + segment + 1)
    wide = tl.float64 if h_ptr.dtype.element_ty == tl.float64 else tl.float32
    h = tl.load(initial_ptr + segment * D + columns, mask, other=0.0).to(wide)
    while row < end:  # a `for` over a range known only at run time fails in the interpreter
        at = row * D + columns
        g = tl.load(g_ptr + at, mask, other=0.0).to(wide)
        u = tl.load(u_ptr + at, mask, other=0.0).to(wide)
        h = g * h + u
        tl.store(h_ptr + at, h.to(h_ptr.dtype.element_ty), mask)
        row += 1


@triton.jit
def backward_kernel(
    grad_h_ptr,
    g_ptr,
    h_ptr,
    offsets_ptr,
    initial_ptr,
    grad_u_ptr,
    grad_g_ptr,
    grad_initial_ptr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    segment = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < D
    start = tl.load(offsets_ptr + segment)
    row = tl.load(offsets_ptr + segment + 1) - 1
    wide = tl.float64 if h_ptr.dtype.element_ty == tl.float64 else tl.float32
    initial = tl.load(initial_ptr + segment * D + columns, mask, other=0.0).to(wide)
    carry = tl.zeros_like(initial)
    while row >= start:
        at = row * D + columns
        before = tl.load(h_ptr + at - D, mask & (row > start), other=0.0).to(wide)
        before = tl.where(row > start, before, initial)
        total = tl.load(grad_h_ptr + at, mask, other=0.0).to(wide) + carry
        tl.store(grad_u_ptr + at, total.to(grad_u_ptr.dtype.element_ty), mask)
        tl.store(grad_g_ptr + at, (total * before).to(grad_g_ptr.dtype.element_ty), mask)
        carry = total * tl.load(g_ptr + at, mask, other=0.0).to(wide)
        row -= 1
    at = segment * D + columns
    tl.store(grad_initial_ptr + at, carry.to(grad_initial_ptr.dtype.element_ty), mask)


def supports(dtype: torch.dtype) -> bool:
    """Whether the kernels take rows of this data type."""
    return dtype in _DTYPES


def tile(D: int) -> tuple[int, int]:
    """(BLOCK, warps) for rows of D features."""
    block = min(triton.next_power_of_2(D), _MAX_BLOCK)
    return block, max(1, min(4, block // 64))


def forward(u_RD: Tensor, g_RD: Tensor, offsets: Tensor, initial_SD: Tensor) -> Tensor:
    """As `reference.forward`, for contiguous tensors of one data type."""
    h_RD = torch.empty_like(u_RD)
    S, D = initial_SD.shape
    if S and D:
        block, warps = tile(D)
        grid = (S, triton.cdiv(D, block))
        forward_kernel[grid](u_RD, g_RD, offsets, initial_SD, h_RD, D, block, num_warps=warps)
    return h_RD


def backward(
    grad_h_RD: Tensor, g_RD: Tensor, h_RD: Tensor, offsets: Tensor, initial_SD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.backward`, for contiguous tensors of one data type."""
    grad_u_RD, grad_g_RD = torch.empty_like(h_RD), torch.empty_like(h_RD)
    grad_initial_SD = torch.empty_like(initial_SD)
    S, D = initial_SD.shape
    if S and D:
        block, warps = tile(D)
        backward_kernel[(S, triton.cdiv(D, block))](
            grad_h_RD,
            g_RD,
            h_RD,
            offsets,
            initial_SD,
            grad_u_RD,
            grad_g_RD,
            grad_initial_SD,
            D,
            block,
            num_warps=warps,
        )
    return grad_u_RD, grad_g_RD, grad_initial_SD
