"""RMSNorm on GPUs: a program keeps a tile of whole rows in registers, so memory is read and written once.

Traffic, forward: read x (and residual), write y (and the sum). Backward: read grad_y and x (and the sum's
gradient), write grad_x. The arithmetic is some 4 and 10 operations an element, far below what a GPU does in
the time that the bytes take: the floor is memory bandwidth.

Legend: N rows, D features; a tile is [TILE_N, TILE_D] with TILE_D the power of two at or above D.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Beyond this the backward kernel spills registers (seen at 16,384), and the definition runs.
MAX_D = 8_192
# Eight elements are what one thread loads at once: 16 bytes of bfloat16, or twice 16 of float32.
_ELEMENTS_A_THREAD = 8
_MIN_ELEMENTS_A_TILE = 1024


@triton.jit
def forward_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    total_ptr,
    y_ptr,
    inverse_rms_ptr,
    N,
    eps,
    D: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_D: tl.constexpr,
):
    rows = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    columns = tl.arange(0, TILE_D)
    mask = (rows < N)[:, None] & (columns < D)[None, :]
    offsets = rows.to(tl.int64)[:, None] * D + columns[None, :]
    value = tl.load(x_ptr + offsets, mask, other=0.0).to(tl.float32)
    if residual_ptr is not None:
        value += tl.load(residual_ptr + offsets, mask, other=0.0).to(tl.float32)
        rounded = value.to(total_ptr.dtype.element_ty)
        tl.store(total_ptr + offsets, rounded, mask)
        value = rounded.to(tl.float32)
    inverse_rms = 1.0 / tl.sqrt(tl.sum(value * value, axis=1) / D + eps)
    tl.store(inverse_rms_ptr + rows, inverse_rms, rows < N)
    y = value * inverse_rms[:, None]
    if weight_ptr is not None:
        y *= tl.load(weight_ptr + columns, columns < D, other=0.0).to(tl.float32)[None, :]
    tl.store(y_ptr + offsets, y.to(y_ptr.dtype.element_ty), mask)


@triton.jit
def backward_kernel(
    grad_y_ptr,
    x_ptr,
    weight_ptr,
    inverse_rms_ptr,
    grad_total_ptr,
    grad_x_ptr,
    grad_weight_ptr,
    N,
    D: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_D: tl.constexpr,
):
    # The derivation is in reference.py. Each program walks over tiles and keeps its part of the weight's
    # gradient in registers; the parts, [programs, D], are added up afterwards in a fixed order.
    columns = tl.arange(0, TILE_D)
    if weight_ptr is not None:
        weight = tl.load(weight_ptr + columns, columns < D, other=0.0).to(tl.float32)[None, :]
        grad_weight = tl.zeros((TILE_N, TILE_D), tl.float32)
    stride = tl.num_programs(0) * TILE_N
    for first in tl.range(tl.program_id(0) * TILE_N, N, stride, num_stages=2):
        rows = first + tl.arange(0, TILE_N)
        mask = (rows < N)[:, None] & (columns < D)[None, :]
        offsets = rows.to(tl.int64)[:, None] * D + columns[None, :]
        inverse_rms = tl.load(inverse_rms_ptr + rows, rows < N, other=0.0)[:, None]
        normed = tl.load(x_ptr + offsets, mask, other=0.0).to(tl.float32) * inverse_rms
        gradient = tl.load(grad_y_ptr + offsets, mask, other=0.0).to(tl.float32)
        if weight_ptr is not None:
            grad_weight += gradient * normed
            gradient *= weight
        slope = tl.sum(gradient * normed, axis=1)[:, None] / D
        grad_x = (gradient - normed * slope) * inverse_rms
        if grad_total_ptr is not None:
            grad_x += tl.load(grad_total_ptr + offsets, mask, other=0.0).to(tl.float32)
        tl.store(grad_x_ptr + offsets, grad_x.to(grad_x_ptr.dtype.element_ty), mask)
    if weight_ptr is not None:
        part = tl.program_id(0).to(tl.int64) * D + columns
        tl.store(grad_weight_ptr + part, tl.sum(grad_weight, axis=0), columns < D)


def supports(x: torch.dtype, other: torch.dtype, D: int) -> bool:
    """Whether the kernels take `x` with rows of D and this data type of the residual, or of the gradient."""
    return x in _DTYPES and other in _DTYPES and D <= MAX_D


def tile(D: int) -> tuple[int, int, int]:
    """(TILE_N, TILE_D, warps) for rows of D: several short rows a program, more warps for long rows."""
    tile_d = triton.next_power_of_2(D)
    tile_n = max(1, _MIN_ELEMENTS_A_TILE // tile_d)
    warps = tile_n * tile_d // (32 * _ELEMENTS_A_THREAD)
    return tile_n, tile_d, min(max(warps, 1), 32)


def forward(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.forward`, for contiguous tensors."""
    D = x.shape[-1]
    N = x.numel() // D
    y = torch.empty_like(x)
    inverse_rms = x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
    total = x
    if residual is not None:
        total = torch.empty_like(x, dtype=torch.promote_types(x.dtype, residual.dtype))
    if N > 0:
        tile_n, tile_d, warps = tile(D)
        weight = None if weight is None else weight.contiguous()
        forward_kernel[(triton.cdiv(N, tile_n),)](
            x, residual, weight, total, y, inverse_rms, N, eps, D, tile_n, tile_d, num_warps=warps
        )
    return y, total, inverse_rms


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor | None, inverse_rms: Tensor, grad_x: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `reference.backward`, for contiguous tensors."""
    D = x.shape[-1]
    N = x.numel() // D
    result = torch.empty_like(x)
    if N == 0:
        return result, inverse_rms.new_zeros(0 if weight is None else D)
    tile_n, tile_d, warps = tile(D)
    programs = min(triton.cdiv(N, tile_n), _resident_programs(x.device, warps))
    parts = None if weight is None else inverse_rms.new_empty((programs, D))
    backward_kernel[(programs,)](
        grad_y,
        x,
        None if weight is None else weight.contiguous(),
        inverse_rms,
        grad_x,
        result,
        parts,
        N,
        D,
        tile_n,
        tile_d,
        num_warps=warps,
    )
    return result, inverse_rms.new_empty(0) if parts is None else parts.sum(0)


def _resident_programs(device: torch.device, warps: int) -> int:
    """How many programs the device holds at once, with some 16 warps on each multiprocessor."""
    if device.type != "cuda":  # under Triton's interpreter
        return 3
    return torch.cuda.get_device_properties(device).multi_processor_count * max(1, 16 // warps)
