"""The product on GPUs: integer tensor cores take the two bytes of a row, and each byte of W once.

Traffic: O I bytes of W, and little else while there are few rows; 4 N operations a byte. So the floor of a decoding
step is memory bandwidth. Sums of a byte of x are int32, exact up to 130,000 inputs.

Legend: N rows, I inputs, O outputs; a program takes TILE_O outputs of TILE_N rows, TILE_I inputs at a time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from multiway_blocks.kernels.tuning import Tiles, fits_rows, row_class, tuned

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TILE_I = 128
# With few rows narrow tiles, so that all multiprocessors read.
TILES = [
    Tiles({"TILE_N": n, "TILE_O": o}, warps, stages)
    for n, o, warps, stages in [
        *((16, 32, 4, 3), (16, 32, 4, 5), (16, 64, 4, 4), (16, 128, 8, 4)),
        (32, 64, 4, 3),
        *((64, 64, 8, 3), (64, 64, 4, 3), (64, 128, 8, 3), (128, 64, 8, 3)),
    ]
]


@tuned(TILES, ["num_outputs", "num_inputs", "ROWS"], fits_rows)
@triton.jit
def forward_kernel(
    high_ptr, low_ptr, step_ptr, codes_ptr, scale_ptr, y_ptr, N, num_outputs,
    num_inputs: tl.constexpr, ROWS: tl.constexpr, TILE_I: tl.constexpr, TILE_N: tl.constexpr, TILE_O: tl.constexpr,
):  # fmt: skip
    outputs = tl.program_id(0) * TILE_O + tl.arange(0, TILE_O)
    rows = tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)
    has_row, has_output = rows < N, outputs < num_outputs
    x_rows = rows.to(tl.int64)[:, None] * num_inputs
    w_rows = outputs.to(tl.int64)[:, None] * num_inputs
    highs = tl.zeros((TILE_N, TILE_O), tl.int32)
    lows = tl.zeros((TILE_N, TILE_O), tl.int32)
    for start in range(0, num_inputs, TILE_I):
        inputs = start + tl.arange(0, TILE_I)
        inside = (inputs < num_inputs)[None, :]
        codes = tl.load(codes_ptr + w_rows + inputs[None, :], has_output[:, None] & inside, other=128)
        w = tl.trans((codes ^ 128).to(tl.int8, bitcast=True))  # minus 128
        mask = has_row[:, None] & inside
        high = tl.load(high_ptr + x_rows + inputs[None, :], mask, other=0)
        low = tl.load(low_ptr + x_rows + inputs[None, :], mask, other=0)
        highs = tl.dot(high, w, highs, out_dtype=tl.int32)
        lows = tl.dot(low, w, lows, out_dtype=tl.int32)
    step = tl.load(step_ptr + rows, has_row, other=0.0)
    scale = tl.load(scale_ptr + outputs, has_output, other=0.0)
    y = (256 * highs.to(tl.int64) + lows).to(tl.float32) * (step[:, None] * scale[None, :])
    places = y_ptr + rows.to(tl.int64)[:, None] * num_outputs + outputs[None, :]
    tl.store(places, y.to(y_ptr.dtype.element_ty), has_row[:, None] & has_output[None, :])


def supports(dtype: torch.dtype) -> bool:
    """Whether the kernel gives results of this data type."""
    return dtype in _DTYPES


def forward(
    high_NI: Tensor, low_NI: Tensor, step_N: Tensor, codes_OI: Tensor, scale_O: Tensor, dtype: torch.dtype
) -> Tensor:
    """As `reference.forward`, for contiguous tensors."""
    (rows, inputs), outputs = high_NI.shape, len(codes_OI)
    y_NO = step_N.new_empty(rows, outputs, dtype=dtype)
    if y_NO.numel():
        forward_kernel[
            lambda tiles: (triton.cdiv(outputs, tiles["TILE_O"]), triton.cdiv(rows, tiles["TILE_N"]))
        ](high_NI, low_NI, step_N, codes_OI, scale_O, y_NO, rows, outputs, inputs, row_class(rows), TILE_I)
    return y_NO
