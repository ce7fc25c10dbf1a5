"""The product on GPUs: tensor cores take the rows of W as they come from memory, which is read once.

Traffic: O x I numbers of W, and little else; the arithmetic, 2 N operations a number, stays below what tensor cores do
in that time. So the floor is memory bandwidth, and all multiprocessors must be reading: where O is small, I is divided
as well (`parts`), and the parts' sums are added up afterwards in a fixed order.

Legend: N rows, I inputs, O outputs; a program takes TILE_O outputs, and TILE_I inputs at a time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_ROWS = 16  # the narrowest tile of the tensor cores
TILE_O = 32
_BYTES_A_ROW = 256  # of a tile of W
_PROGRAMS = 512  # some four on each multiprocessor of a large GPU
WARPS = 4


@triton.jit
def forward_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    N,
    num_outputs,
    num_inputs,
    INPUTS: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_O: tl.constexpr,
    TILE_I: tl.constexpr,
    WIDE: tl.constexpr,
):
    outputs = tl.program_id(0) * TILE_O + tl.arange(0, TILE_O)
    rows = tl.arange(0, TILE_N)
    start = tl.program_id(1) * INPUTS
    total = tl.zeros((TILE_O, TILE_N), tl.float32)
    weights = outputs.to(tl.int64)[:, None] * num_inputs
    step = start
    end = tl.minimum(start + INPUTS, num_inputs)
    while step < end:  # a `for` over a range known only at run time fails in the interpreter
        inputs = step + tl.arange(0, TILE_I)
        inside = inputs < end
        w = tl.load(
            weight_ptr + weights + inputs[None, :],
            (outputs < num_outputs)[:, None] & inside[None, :],
            other=0.0,
        )
        x = tl.load(
            x_ptr + rows[None, :] * num_inputs + inputs[:, None],
            (rows < N)[None, :] & inside[:, None],
            other=0.0,
        )
        if WIDE:  # float32, and the interpreter, which knows no products of bfloat16
            total = tl.dot(w.to(tl.float32), x.to(tl.float32), total, input_precision="ieee")
        else:
            total = tl.dot(w, x, total)
        step += TILE_I
    if bias_ptr is not None:
        total += tl.load(bias_ptr + outputs, outputs < num_outputs, other=0.0).to(tl.float32)[:, None]
    places = (tl.program_id(1) * N + rows).to(tl.int64)[None, :] * num_outputs + outputs[:, None]
    tl.store(
        y_ptr + places,
        total.to(y_ptr.dtype.element_ty),
        (outputs < num_outputs)[:, None] & (rows < N)[None, :],
    )


def supports(dtype: torch.dtype, rows: int) -> bool:
    """Whether the kernel takes so many rows of this data type."""
    return dtype in _DTYPES and rows <= MAX_ROWS


def tile(dtype: torch.dtype, outputs: int, inputs: int) -> tuple[int, int]:
    """(TILE_I, parts): inputs at a time, and how many programs share the inputs of an output."""
    tile_i = _BYTES_A_ROW // dtype.itemsize
    parts = _PROGRAMS // triton.cdiv(outputs, TILE_O)
    return tile_i, max(1, min(parts, inputs // (4 * tile_i)))


def forward(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """As `reference.forward`, for contiguous tensors with at most `MAX_ROWS` rows."""
    rows, inputs = x_NI.shape
    outputs = weight_OI.shape[0]
    y_NO = x_NI.new_empty(rows, outputs)
    if y_NO.numel() == 0:
        return y_NO
    tile_i, parts = tile(x_NI.dtype, outputs, inputs)
    share = triton.cdiv(triton.cdiv(inputs, parts), tile_i) * tile_i
    wide = x_NI.dtype == torch.float32 or not x_NI.is_cuda
    sums = y_NO if parts == 1 else x_NI.new_empty((parts, rows, outputs), dtype=torch.float32)
    forward_kernel[(triton.cdiv(outputs, TILE_O), parts)](
        x_NI, weight_OI, bias_O if parts == 1 else None, sums, rows, outputs, inputs,
        share, MAX_ROWS, TILE_O, tile_i, wide, num_warps=WARPS,
    )  # fmt: skip
    if parts == 1:
        return y_NO
    total = sums.sum(0)
    return (total if bias_O is None else total + bias_O).to(x_NI.dtype)
