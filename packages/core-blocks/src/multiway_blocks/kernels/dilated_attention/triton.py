"""Dilated attention on GPUs: flash attention whose row j of a segment is token offset + r j, without copies.

Operations of a branch (w, r): 4 N w / r^2 D a head, half of it if causal; traffic: q, k, v once (k and v from the
second-level cache for the further tiles of queries), the results read and written. A row of a head is at least 128
bytes in a piece, so strides lose nothing; with w / r of 1,024 and more the floor is the tensor cores.

A program ends by joining its rows with what the branches before it left there, weighted by the exponentials of their
log-sum-exps; the first branch keeps every token. So no branch's results are written apart.

Legend: as in `reference.py`; a program takes TILE_Q queries of a segment, and TILE_K keys at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from multiway_blocks.kernels.tuning import Tiles, tuned

_DTYPES = (
    torch.bfloat16,
    torch.float16,
)  # products of float32 have no tensor cores, and PyTorch's are as good
MAX_D = 128
# Those of a head's width of 64, and of 128, of which no register is spilled.
TILES = [
    Tiles({"TILE_Q": q, "TILE_K": k}, warps, stages)
    for q, k, warps, stages in [
        *((64, 64, 4, 3), (128, 64, 8, 3), (64, 64, 4, 2)),
        *((64, 32, 4, 3), (32, 32, 4, 2)),
    ]
]


def fits(tiles: Tiles, arguments: Mapping[str, Any]) -> bool:
    """Whether the tiles are those of this width."""
    return (tiles.constants["TILE_K"] == 64) == (arguments["TILE_D"] <= 64)


# Timed at the first branch, which only writes: the others add to what they find, and could not run several times.
@tuned(TILES, ["TILE_D", "CAUSAL"], fits)
@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, o_ptr, lse_ptr, H, N, length, dilation, heads_an_offset, scale, first_branch,
    D: tl.constexpr, TILE_D: tl.constexpr, CAUSAL: tl.constexpr, WIDE: tl.constexpr, TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(2)
    offset = head % H // heads_an_offset
    start = tl.program_id(1) * length
    kept = (tl.minimum(length, N - start) - offset + dilation - 1) // dilation
    if tl.program_id(0) * TILE_Q < kept:
        features = tl.arange(0, TILE_D)
        queries = tl.program_id(0) * TILE_Q + tl.arange(0, TILE_Q)
        # From the head's first kept token of the segment, in 32 bits: addresses of 64 would take twice the registers.
        base = head.to(tl.int64) * N + start + offset
        q_places = queries[:, None] * (dilation * D) + features[None, :]
        mask = (queries < kept)[:, None] & (features < D)[None, :]
        q = tl.load(q_ptr + base * D + q_places, mask, other=0.0)
        # -1e30 stands in the place of minus infinity, whose differences are no numbers.
        peak = tl.full((TILE_Q,), -1.0e30, tl.float32)
        total = tl.zeros((TILE_Q,), tl.float32)
        mixed = tl.zeros((TILE_Q, TILE_D), tl.float32)
        end = kept
        if CAUSAL:
            end = tl.minimum(kept, (tl.program_id(0) + 1) * TILE_Q)
        for first in range(0, end, TILE_K):
            keys = first + tl.arange(0, TILE_K)
            places = keys[:, None] * (dilation * D) + features[None, :]
            inside = (keys < kept)[:, None] & (features < D)[None, :]
            k = tl.load(k_ptr + base * D + places, inside, other=0.0)
            v = tl.load(v_ptr + base * D + places, inside, other=0.0)
            if WIDE:  # the interpreter knows no products of bfloat16
                scores = tl.dot(q.to(tl.float32), tl.trans(k.to(tl.float32)), input_precision="ieee") * scale
            else:
                scores = tl.dot(q, tl.trans(k)) * scale
            visible = (keys < kept)[None, :]
            if CAUSAL:
                visible = visible & (keys[None, :] <= queries[:, None])
            scores = tl.where(visible, scores, -1.0e30)
            next_peak = tl.maximum(peak, tl.max(scores, axis=1))
            shares = tl.exp(scores - next_peak[:, None])
            shrunk = tl.exp(peak - next_peak)
            total = total * shrunk + tl.sum(shares, axis=1)
            mixed = mixed * shrunk[:, None]
            if WIDE:
                mixed = tl.dot(shares, v.to(tl.float32), mixed, input_precision="ieee")
            else:
                mixed = tl.dot(shares.to(v.dtype), v, mixed)
            peak = next_peak
        o = mixed / total[:, None]
        lse = peak + tl.log(total)
        sums = lse_ptr + base + queries * dilation
        if first_branch == 0:
            before = tl.load(sums, queries < kept, other=0.0)
            highest = tl.maximum(before, lse)
            old, new = tl.exp(before - highest), tl.exp(lse - highest)
            o = o * (new / (old + new))[:, None]
            o += tl.load(o_ptr + base * D + q_places, mask, other=0.0) * (old / (old + new))[:, None]
            lse = highest + tl.log(old + new)
        tl.store(o_ptr + base * D + q_places, o, mask)
        tl.store(sums, lse, queries < kept)


def supports(dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the kernel takes heads of this data type and width."""
    return dtype in _DTYPES and head_dim <= MAX_D


def sizes(query: Tensor, causal: bool) -> dict[str, int | bool]:
    """The kernel's constants."""
    D = query.shape[3]
    return {
        "D": D,
        "TILE_D": max(16, triton.next_power_of_2(D)),
        "CAUSAL": causal,
        "WIDE": not query.is_cuda,
    }


def _grid(kept: int, rest: tuple[int, int], tiles: Mapping[str, int]) -> tuple[int, int, int]:
    return triton.cdiv(kept, tiles["TILE_Q"]), *rest


def forward(
    query_BHND: Tensor,
    key_BHND: Tensor,
    value_BHND: Tensor,
    branches: Sequence[tuple[int, int]],
    causal: bool,
) -> Tensor:
    """As `reference.forward`, for contiguous tensors."""
    B, H, N, D = query_BHND.shape
    o_BHND = torch.empty_like(query_BHND, dtype=torch.float32)
    if o_BHND.numel():
        lse_BHN = o_BHND.new_empty(B, H, N)
        # The first one must reach every token.
        for index, (length, dilation) in enumerate(sorted(branches, key=lambda branch: branch[1])):
            length = min(length, N)
            kept, rest = triton.cdiv(length, dilation), (triton.cdiv(N, length), B * H)
            grid = functools.partial(_grid, kept, rest)
            forward_kernel[grid](
                query_BHND, key_BHND, value_BHND, o_BHND, lse_BHN, H, N, length, dilation, -(-H // dilation), D**-0.5,
                int(index == 0), **sizes(query_BHND, causal),
            )  # fmt: skip
    return o_BHND.to(query_BHND.dtype)
