"""The ternary product on GPUs: tensor cores multiply int8 tiles while the weights come as two bits from memory.

Traffic: O x I / 4 bytes of W, N x I of x, and N x O results; 2 N O I operations. With few rows the floor is memory
bandwidth, with some hundred rows the tensor cores. A loaded tile of W is 64 bytes wide and serves four products, one a
bit plane, with neighbouring 64 inputs each: the layout saves all shuffling.

Legend: N rows, O outputs, P bytes of a packed row, I = 4 P inputs (padded); a program takes TILE_N x TILE_O results.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from multiway_blocks.kernels.tuning import Tiles, fits_rows, row_class, tuned

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_PLANE = 64  # bytes of a block, and inputs of a product
# With few rows narrow tiles, so that all multiprocessors read.
TILES = [
    Tiles({"TILE_N": n, "TILE_O": o}, warps, stages)
    for n, o, warps, stages in [
        *((16, 32, 4, 3), (16, 32, 4, 5), (16, 64, 4, 4), (16, 128, 8, 4)),
        *((32, 64, 4, 3), (32, 128, 4, 4)),
        *((64, 128, 8, 3), (64, 64, 4, 3), (128, 256, 8, 3)),
    ]
]


@tuned(TILES, ["num_outputs", "packed_bytes", "ROWS"], fits_rows)
@triton.jit
def forward_kernel(
    x_ptr,
    step_ptr,
    packed_ptr,
    scale_ptr,
    y_ptr,
    N,
    num_outputs,
    packed_bytes: tl.constexpr,
    ROWS: tl.constexpr,
    PLANE: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_O: tl.constexpr,
):
    outputs = tl.program_id(0) * TILE_O + tl.arange(0, TILE_O)
    rows = tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)
    columns = tl.arange(0, PLANE)
    has_row, has_output = rows < N, outputs < num_outputs
    x_rows = x_ptr + rows.to(tl.int64)[:, None] * (4 * packed_bytes) + columns[None, :]
    w_rows = packed_ptr + outputs.to(tl.int64)[:, None] * packed_bytes + columns[None, :]
    total = tl.zeros((TILE_N, TILE_O), tl.int32)
    for block in range(0, packed_bytes, PLANE):
        packed = tl.load(w_rows + block, has_output[:, None], other=0)
        for plane in tl.static_range(4):
            w = ((packed >> (2 * plane)) & 3).to(tl.int8) - 1
            x = tl.load(x_rows + 4 * block + PLANE * plane, has_row[:, None], other=0)
            total = tl.dot(x, tl.trans(w), total, out_dtype=tl.int32)
    step = tl.load(step_ptr + rows, has_row, other=0.0)
    scale = tl.load(scale_ptr + outputs, has_output, other=0.0)
    y = total.to(tl.float32) * (step[:, None] * scale[None, :])
    places = y_ptr + rows.to(tl.int64)[:, None] * num_outputs + outputs[None, :]
    tl.store(places, y.to(y_ptr.dtype.element_ty), has_row[:, None] & has_output[None, :])


def supports(dtype: torch.dtype) -> bool:
    """Whether the kernel gives results of this data type."""
    return dtype in _DTYPES


def forward(x_NI: Tensor, step_N: Tensor, packed_OP: Tensor, scale_O: Tensor, dtype: torch.dtype) -> Tensor:
    """As `reference.forward`, for contiguous tensors."""
    rows, inputs = x_NI.shape
    outputs, packed_bytes = packed_OP.shape
    y_NO = step_N.new_empty(rows, outputs, dtype=dtype)
    if y_NO.numel() == 0:
        return y_NO
    if inputs != 4 * packed_bytes:
        x_NI = nn.functional.pad(x_NI, (0, 4 * packed_bytes - inputs))
    forward_kernel[lambda tiles: (triton.cdiv(outputs, tiles["TILE_O"]), triton.cdiv(rows, tiles["TILE_N"]))](
        x_NI, step_N, packed_OP, scale_O, y_NO, rows, outputs, packed_bytes, row_class(rows), _PLANE
    )
    return y_NO
