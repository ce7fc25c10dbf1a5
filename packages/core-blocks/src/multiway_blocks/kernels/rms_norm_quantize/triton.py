"""RMSNorm and quantisation on GPUs: a program keeps a tile of whole rows in registers.

Traffic: read x, write one byte an element and four a row; unfused, the norm would be written and read once more. Some
ten operations an element: the floor is memory bandwidth.

Legend: N rows, D features; a tile is [TILE_N, TILE_D] with TILE_D the power of two at or above D.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from multiway_blocks.kernels.rms_norm.triton import MAX_D, tile
from multiway_blocks.kernels.rms_norm_quantize.reference import SMALLEST

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@triton.jit
def forward_kernel(
    x_ptr,
    weight_ptr,
    values_ptr,
    step_ptr,
    N,
    eps,
    D: tl.constexpr,
    SMALLEST: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_D: tl.constexpr,
):
    rows = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    columns = tl.arange(0, TILE_D)
    mask = (rows < N)[:, None] & (columns < D)[None, :]
    offsets = rows.to(tl.int64)[:, None] * D + columns[None, :]
    x = tl.load(x_ptr + offsets, mask, other=0.0).to(tl.float32)
    rms = tl.sqrt(tl.sum(x * x, axis=1) / D + eps)
    if weight_ptr is not None:
        x *= tl.load(weight_ptr + columns, columns < D, other=0.0).to(tl.float32)[None, :]
    peak = tl.maximum(tl.max(tl.abs(x), axis=1), SMALLEST * rms)
    # A maximum skips NaN; a sum does not.
    faulty = tl.sum((x != x).to(tl.int32), axis=1) > 0
    peak = tl.where(faulty, float("nan"), peak)
    tl.store(step_ptr + rows, peak / (127.0 * rms), rows < N)
    scaled = x * (127.0 / peak)[:, None]
    # The product must be rounded before the addition (no fusion), else other values come out than the definition's.
    # Adding 1.5 * 2^23 leaves a number no bits for fractions: rounds halves to even. 0 for what is no number.
    inside = tl.minimum(tl.maximum(tl.where(scaled == scaled, scaled, 0.0), -127.0), 127.0)
    rounded = (inside + 12582912.0) - 12582912.0
    tl.store(values_ptr + offsets, rounded.to(tl.int8), mask)


def supports(dtype: torch.dtype, features: int) -> bool:
    """Whether the kernel takes rows of so many features of this data type."""
    return dtype in _DTYPES and features <= MAX_D


def forward(x_ND: Tensor, weight_D: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """As `reference.forward`, for contiguous `x`."""
    rows, features = x_ND.shape
    values = torch.empty_like(x_ND, dtype=torch.int8)
    step = x_ND.new_empty(rows, dtype=torch.float32)
    if rows:
        tile_n, tile_d, warps = tile(features)
        weight = None if weight_D is None else weight_D.contiguous()
        forward_kernel[(triton.cdiv(rows, tile_n),)](
            x_ND, weight, values, step, rows, eps, features, SMALLEST, tile_n, tile_d,
            num_warps=warps, enable_fp_fusion=False,
        )  # fmt: skip
    return values, step
