"""Modulated RMSNorm on GPUs: a program keeps whole rows in registers, so memory is read and written once.

Traffic, forward: read x (and residual), write y (and the stream), and each modulation once for its rows; backward: read
grad_y, the stream, (its gradient, x), write (one or) two gradients. Some 10 and 20 operations an element: the floor is
memory bandwidth.

Legend: as in `reference.py`; R rows of a modulation. Backward, a program takes all R rows of one, so that sums over
them stay in registers.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from multiway_blocks.kernels.adaln_modulate.reference import Gradients

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_D = 4096  # beyond this the backward kernel spills registers
_ELEMENTS_A_THREAD = 8  # which one thread loads at once: 16 bytes of bfloat16, or twice 16 of float32


@triton.jit
def forward_kernel(
    x_ptr, gate_ptr, residual_ptr, weight_ptr, shift_ptr, scale_ptr, total_ptr, y_ptr, inverse_rms_ptr, R, eps,
    D: tl.constexpr, TILE_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, TILE_D)
    mask = columns < D
    place, modulation = row * D + columns, row // R * D + columns
    value = tl.load(x_ptr + place, mask, other=0.0).to(tl.float32)
    if residual_ptr is not None:
        value *= tl.load(gate_ptr + modulation, mask, other=0.0).to(tl.float32)
        value += tl.load(residual_ptr + place, mask, other=0.0).to(tl.float32)
        rounded = value.to(total_ptr.dtype.element_ty)
        tl.store(total_ptr + place, rounded, mask)
        value = rounded.to(tl.float32)
    inverse_rms = 1.0 / tl.sqrt(tl.sum(value * value, axis=0) / D + eps)
    tl.store(inverse_rms_ptr + row, inverse_rms)
    y = value * inverse_rms
    if weight_ptr is not None:
        y *= tl.load(weight_ptr + columns, mask, other=0.0).to(tl.float32)
    y *= 1.0 + tl.load(scale_ptr + modulation, mask, other=0.0).to(tl.float32)
    y += tl.load(shift_ptr + modulation, mask, other=0.0).to(tl.float32)
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask)


@triton.jit
def backward_kernel(
    grad_y_ptr, grad_total_ptr, total_ptr, x_ptr, gate_ptr, weight_ptr, scale_ptr, inverse_rms_ptr, result_ptr,
    grad_x_ptr, grad_gate_ptr, grad_shift_ptr, grad_scale_ptr, grad_weight_ptr, R, D: tl.constexpr, TILE_D:
    tl.constexpr,
):  # fmt: skip
    # The derivation is in reference.py. The weight's gradient is stored by modulation, and added up afterwards.
    columns = tl.arange(0, TILE_D)
    mask = columns < D
    modulation = tl.program_id(0).to(tl.int64) * D + columns
    factor = 1.0 + tl.load(scale_ptr + modulation, mask, other=0.0).to(tl.float32)
    weight = tl.full((TILE_D,), 1.0, tl.float32)
    if weight_ptr is not None:
        weight = tl.load(weight_ptr + columns, mask, other=0.0).to(tl.float32)
    shifts = tl.zeros((TILE_D,), tl.float32)
    products = tl.zeros((TILE_D,), tl.float32)
    if x_ptr is not None:
        gate = tl.load(gate_ptr + modulation, mask, other=0.0).to(tl.float32)
        gates = tl.zeros((TILE_D,), tl.float32)
    first = tl.program_id(0).to(tl.int64) * R
    for index in tl.range(0, R, num_stages=2):  # the next row is loaded while this one is computed
        row = first + index
        place = row * D + columns
        inverse_rms = tl.load(inverse_rms_ptr + row)
        normed = tl.load(total_ptr + place, mask, other=0.0).to(tl.float32) * inverse_rms
        grad = tl.load(grad_y_ptr + place, mask, other=0.0).to(tl.float32)
        shifts += grad
        products += grad * normed
        h = grad * factor * weight
        value = (h - normed * (tl.sum(h * normed, axis=0) / D)) * inverse_rms
        if grad_total_ptr is not None:
            value += tl.load(grad_total_ptr + place, mask, other=0.0).to(tl.float32)
        tl.store(result_ptr + place, value.to(result_ptr.dtype.element_ty), mask)
        if x_ptr is not None:
            tl.store(grad_x_ptr + place, (value * gate).to(grad_x_ptr.dtype.element_ty), mask)
            gates += value * tl.load(x_ptr + place, mask, other=0.0).to(tl.float32)
    tl.store(grad_shift_ptr + modulation, shifts, mask)
    tl.store(grad_scale_ptr + modulation, products * weight, mask)
    if x_ptr is not None:
        tl.store(grad_gate_ptr + modulation, gates, mask)
    if weight_ptr is not None:
        tl.store(grad_weight_ptr + modulation, products * factor, mask)


def supports(dtype: torch.dtype, D: int) -> bool:
    """Whether the kernels take rows of D of this data type, which all but the weight must have."""
    return dtype in _DTYPES and D <= MAX_D


def tile(D: int) -> tuple[int, int]:
    """(TILE_D, warps) for rows of D."""
    tile_d = triton.next_power_of_2(D)
    return tile_d, min(max(tile_d // (32 * _ELEMENTS_A_THREAD), 1), 16)


def forward(
    x_ND: Tensor,
    gate_MD: Tensor | None,
    residual_ND: Tensor | None,
    weight_D: Tensor | None,
    shift_MD: Tensor,
    scale_MD: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.forward`, for contiguous tensors."""
    (N, D), M = x_ND.shape, len(shift_MD)
    y_ND = torch.empty_like(x_ND)
    total_ND = x_ND if residual_ND is None else torch.empty_like(x_ND)
    inverse_rms_N1 = x_ND.new_empty((N, 1), dtype=torch.float32)
    if N:
        tile_d, warps = tile(D)
        forward_kernel[(N,)](
            x_ND, gate_MD, residual_ND, weight_D, shift_MD, scale_MD, total_ND, y_ND, inverse_rms_N1, N // M, eps,
            D, tile_d, num_warps=warps,
        )  # fmt: skip
    return y_ND, total_ND, inverse_rms_N1


def backward(
    grad_y_ND: Tensor,
    grad_total_ND: Tensor | None,
    total_ND: Tensor,
    x_ND: Tensor | None,
    gate_MD: Tensor | None,
    weight_D: Tensor | None,
    scale_MD: Tensor,
    inverse_rms_N1: Tensor,
) -> Gradients:
    """As `reference.backward`, for contiguous tensors."""
    (N, D), M = total_ND.shape, len(scale_MD)
    result_ND = torch.empty_like(total_ND)
    grad_x_ND = total_ND.new_empty(0) if x_ND is None else torch.empty_like(x_ND)
    grad_gate, grad_shift, grad_scale, parts = (
        inverse_rms_N1.new_zeros((M, D) if wanted else 0)
        for wanted in (x_ND is not None, True, True, weight_D is not None)
    )
    if N:
        tile_d, warps = tile(D)
        backward_kernel[(M,)](
            grad_y_ND, grad_total_ND, total_ND, x_ND, gate_MD, weight_D, scale_MD, inverse_rms_N1, result_ND, grad_x_ND,
            grad_gate, grad_shift, grad_scale, parts, N // M, D, tile_d, num_warps=warps,
        )  # fmt: skip
    grad_weight = parts if weight_D is None else parts.sum(0)
    return Gradients(result_ND, grad_x_ND, grad_gate, grad_shift, grad_scale, grad_weight)
