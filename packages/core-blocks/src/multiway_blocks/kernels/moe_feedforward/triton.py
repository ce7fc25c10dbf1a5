"""Experts' feed-forward networks on GPUs: a block of rows goes through its whole network without leaving the chip.

Operations: 4 R E I, gated 6 R E I. Traffic: rows in and out, and each expert's weights once for every block of its rows
(from the second-level cache, if there are several): what lies between the two products, 2 R I numbers or more, is not
written. It pays where E is small, as sub-tokens of MH-MoE are: a block's rows and results are held as a whole.

Rows of an expert are cut into blocks; a list says which expert and which rows each has. It is made on the device, and
is as long as it can be at most, so that nobody waits for the counts; what is too much ends at once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from multiway_blocks.kernels.moe_feedforward.reference import Experts

_DTYPES = (torch.bfloat16, torch.float16)  # float32 would need twice the memory on the chip
MAX_E = 256  # beyond this registers are spilled
TILE_I = 32
WARPS, STAGES = 8, 2


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    if ACTIVATION == "relu":
        return tl.maximum(x, 0.0)
    if ACTIVATION == "silu":
        return x / (1.0 + tl.exp(-x))
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def product(a, b, WIDE: tl.constexpr):
    if WIDE:  # the interpreter knows no products of bfloat16
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b)


@triton.jit
def inner_tile(
    x,
    up_ptr,
    bias_ptr,
    outputs,
    features,
    E: tl.constexpr,
    mask,
    inside,
    DTYPE: tl.constexpr,
    WIDE: tl.constexpr,
):
    w = tl.load(up_ptr + outputs[None, :] * E + features[:, None], mask, other=0.0)
    h = product(x, w, WIDE)
    if bias_ptr is not None:
        h += tl.load(bias_ptr + outputs, inside, other=0.0).to(tl.float32)[None, :]
    return h.to(DTYPE).to(tl.float32)  # rounded as the definition rounds it


@triton.jit
def forward_kernel(
    x_ptr, up_ptr, up_bias_ptr, down_ptr, down_bias_ptr, blocks_ptr, y_ptr,
    E: tl.constexpr, INNER: tl.constexpr, GATED: tl.constexpr, ACTIVATION: tl.constexpr, TILE_R: tl.constexpr,
    TILE_E: tl.constexpr, TILE_I: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    # blocks [blocks, 3]: expert, first row, end of the expert's rows; no rows where there are no more blocks.
    block = blocks_ptr + 3 * tl.program_id(0)
    expert, first, end = tl.load(block), tl.load(block + 1), tl.load(block + 2)
    if first < end:
        rows = first + tl.arange(0, TILE_R)
        features = tl.arange(0, TILE_E)
        mask = (rows < end)[:, None] & (features < E)[None, :]
        places = rows[:, None] * E + features[None, :]
        x = tl.load(x_ptr + places, mask, other=0.0)
        J = 2 * INNER if GATED else INNER
        up = up_ptr + expert * J * E
        down = down_ptr + expert * E * INNER
        up_bias = None
        if up_bias_ptr is not None:
            up_bias = up_bias_ptr + expert * J
        total = tl.zeros((TILE_R, TILE_E), tl.float32)
        if down_bias_ptr is not None:
            bias = tl.load(down_bias_ptr + expert * E + features, features < E, other=0.0)
            total += bias.to(tl.float32)[None, :]
        for start in range(0, INNER, TILE_I):
            inner = start + tl.arange(0, TILE_I)
            inside = inner < INNER
            wanted = (features < E)[:, None] & inside[None, :]
            a = activate(
                inner_tile(x, up, up_bias, inner, features, E, wanted, inside, x_ptr.dtype.element_ty, WIDE),
                ACTIVATION,
            )
            if GATED:
                a = a.to(x_ptr.dtype.element_ty).to(tl.float32) * inner_tile(
                    x, up, up_bias, INNER + inner, features, E, wanted, inside, x_ptr.dtype.element_ty, WIDE
                )
            w = tl.load(
                down + features[None, :] * INNER + inner[:, None],
                (features < E)[None, :] & inside[:, None],
                other=0.0,
            )
            total += product(a.to(x_ptr.dtype.element_ty), w, WIDE)
        tl.store(y_ptr + places, total.to(y_ptr.dtype.element_ty), mask)


def supports(dtype: torch.dtype, hidden_size: int) -> bool:
    """Whether the kernel takes rows of this data type and width."""
    return dtype in _DTYPES and hidden_size <= MAX_E


def tile_rows(rows: int, num_experts: int, capability: int) -> int:
    """TILE_R: 64, which the tensor cores of sm_90 take at once, where experts have so many rows in the mean.

    On earlier GPUs so many rows would spill registers.
    """
    return 64 if capability >= 9 and rows >= 64 * num_experts else 32


def blocks(counts_N: Tensor, rows: int, tile_r: int) -> Tensor:
    """The list [blocks, 3] of int64, as many as ``rows`` can need whatever their counts are."""
    num_blocks_N = (counts_N + tile_r - 1) // tile_r
    end_N, last_N = counts_N.cumsum(0), num_blocks_N.cumsum(0)
    block_B = torch.arange(rows // tile_r + len(counts_N), device=counts_N.device)
    expert_B = torch.searchsorted(last_N, block_B, right=True)
    known_B = expert_B.clamp(max=len(counts_N) - 1)
    within_B = block_B - (last_N - num_blocks_N)[known_B]
    first_B = (end_N - counts_N)[known_B] + tile_r * within_B
    last_B = torch.where(expert_B == known_B, end_N[known_B], 0)
    return torch.stack([known_B, first_B, last_B], dim=1)


def sizes(x_RE: Tensor, experts: Experts) -> dict[str, int | bool | str]:
    """The kernel's constants."""
    capability = torch.cuda.get_device_capability(x_RE.device)[0] if x_RE.is_cuda else 0
    return {
        "E": x_RE.shape[1],
        "INNER": experts.down_NEI.shape[2],
        "GATED": experts.gated,
        "ACTIVATION": experts.activation,
        "TILE_R": tile_rows(len(x_RE), len(experts.down_NEI), capability),
        "TILE_E": max(16, triton.next_power_of_2(x_RE.shape[1])),
        "TILE_I": TILE_I,
        "WIDE": not x_RE.is_cuda,
    }


def forward(x_RE: Tensor, counts_N: Tensor, experts: Experts) -> Tensor:
    """As `reference.forward`, for contiguous tensors."""
    y_RE = torch.empty_like(x_RE)
    if y_RE.numel():
        constants = sizes(x_RE, experts)
        list_B3 = blocks(counts_N, len(x_RE), int(constants["TILE_R"]))
        forward_kernel[(len(list_B3),)](
            x_RE, experts.up_NJE, experts.up_bias_NJ, experts.down_NEI, experts.down_bias_NE, list_B3, y_RE,
            **constants, num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
    return y_RE
