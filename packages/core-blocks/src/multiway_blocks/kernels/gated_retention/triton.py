"""Retention on GPUs: a scan over chunks that writes the states, then all chunks at once; and one token.

Of a head and token, C the chunk: 2 C (K + V) + 4 K V operations, and 2 (2 K + 2 V) + 4 K V / C bytes in bfloat16
(states written and read). With K = V = 128 and C = 64 that is some 48 operations a byte: the floor is memory
bandwidth. A step reads and writes the state, 8 K V bytes a head, and little else.

Legend: as in `reference.py`; programs take TILE x TILE of a state, and CHUNK tokens.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from multiway_blocks.kernels.gated_retention.reference import wide

_DTYPES = (
    torch.bfloat16,
    torch.float16,
)  # products of float32 have no tensor cores, and PyTorch's are as good
CHUNK = 64
TILE = 64
WARPS = 8


@triton.jit
def product(a, b, WIDE: tl.constexpr):
    if WIDE:  # the interpreter knows no products of bfloat16
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b)


@triton.jit
def load_tile(ptr, rows, columns, num_rows, width):
    return tl.load(
        ptr + rows.to(tl.int64)[:, None] * width + columns[None, :],
        (rows < num_rows)[:, None] & (columns < width)[None, :],
        other=0.0,
    )


@triton.jit
def state_kernel(
    k_ptr, v_ptr, total_ptr, state_ptr, states_ptr, next_ptr, T, num_chunks,
    K: tl.constexpr, V: tl.constexpr, CHUNK: tl.constexpr, TILE: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    # total [N, chunks CHUNK]: sums of log-decays from each chunk's start; behind the last token they stay as they are.
    head = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * TILE + tl.arange(0, TILE)
    columns = tl.program_id(2) * TILE + tl.arange(0, TILE)
    places = rows.to(tl.int64)[:, None] * V + columns[None, :]
    inside = (rows < K)[:, None] & (columns < V)[None, :]
    state = tl.load(state_ptr + head * K * V + places, inside, other=0.0)
    for chunk in range(num_chunks):
        stored = (head * num_chunks + chunk) * K * V + places
        tl.store(states_ptr + stored, state.to(states_ptr.dtype.element_ty), inside)
        tokens = chunk * CHUNK + tl.arange(0, CHUNK)
        sums = total_ptr + (head * num_chunks + chunk) * CHUNK
        last = tl.load(sums + CHUNK - 1)
        falling = tl.exp(last - tl.load(sums + tl.arange(0, CHUNK)))
        k = load_tile(k_ptr + head * T * K, tokens, rows, T, K)
        v = load_tile(v_ptr + head * T * V, tokens, columns, T, V)
        kept = tl.trans((k.to(tl.float32) * falling[:, None]).to(v.dtype))
        state = state * tl.exp(last) + product(kept, v, WIDE)
    tl.store(next_ptr + head * K * V + places, state, inside)


@triton.jit
def output_kernel(
    q_ptr, k_ptr, v_ptr, total_ptr, states_ptr, o_ptr, T, num_chunks,
    K: tl.constexpr, V: tl.constexpr, CHUNK: tl.constexpr, TILE: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    columns = tl.program_id(2) * TILE + tl.arange(0, TILE)
    tokens = chunk * CHUNK + tl.arange(0, CHUNK)
    scores = tl.zeros((CHUNK, CHUNK), tl.float32)
    before = tl.zeros((CHUNK, TILE), tl.float32)
    states = states_ptr + (head * num_chunks + chunk) * K * V
    for first in range(0, K, TILE):
        keys = first + tl.arange(0, TILE)
        q = load_tile(q_ptr + head * T * K, tokens, keys, T, K)
        k = load_tile(k_ptr + head * T * K, tokens, keys, T, K)
        scores += product(q, tl.trans(k), WIDE)
        before += product(q, load_tile(states, keys, columns, K, V), WIDE)
    total = tl.load(total_ptr + (head * num_chunks + chunk) * CHUNK + tl.arange(0, CHUNK))
    places = tl.arange(0, CHUNK)
    # Masked before: the exponent would overflow there.
    difference = tl.where(places[None, :] <= places[:, None], total[:, None] - total[None, :], -1.0e30)
    v = load_tile(v_ptr + head * T * V, tokens, columns, T, V)
    o = product((scores * tl.exp(difference)).to(v.dtype), v, WIDE) + before * tl.exp(total)[:, None]
    mask = (tokens < T)[:, None] & (columns < V)[None, :]
    tl.store(o_ptr + (head * T + tokens)[:, None] * V + columns[None, :], o, mask)


@triton.jit
def step_kernel(
    q_ptr, k_ptr, v_ptr, log_decay_ptr, state_ptr, o_ptr, next_ptr,
    K: tl.constexpr, V: tl.constexpr, TILE_K: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    decay = tl.exp(tl.load(log_decay_ptr + head).to(tl.float32))
    v = tl.load(v_ptr + head * V + columns, columns < V, other=0.0).to(tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    for first in tl.range(0, K, TILE_K, num_stages=2):  # the next rows are loaded while these are computed
        rows = first + tl.arange(0, TILE_K)
        q = tl.load(q_ptr + head * K + rows, rows < K, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + head * K + rows, rows < K, other=0.0).to(tl.float32)
        state = load_tile(state_ptr + head * K * V, rows, columns, K, V) * decay + k[:, None] * v[None, :]
        places = head * K * V + rows.to(tl.int64)[:, None] * V + columns[None, :]
        tl.store(next_ptr + places, state, (rows < K)[:, None] & (columns < V)[None, :])
        total += tl.sum(state * q[:, None], axis=0)
    tl.store(o_ptr + head * V + columns, total, columns < V)


def supports(dtype: torch.dtype, state: torch.dtype) -> bool:
    """Whether the kernels take tokens of this data type and this one of the state."""
    return dtype in _DTYPES and state == torch.float32


def chunkwise(
    q_BHTK: Tensor, k_BHTK: Tensor, v_BHTV: Tensor, log_decay_BHT: Tensor, state_BHKV: Tensor
) -> tuple[Tensor, Tensor]:
    """As `reference.chunkwise`, for contiguous tokens of one data type; products of states are rounded to it."""
    B, H, T, K = q_BHTK.shape
    V = v_BHTV.shape[3]
    chunks = triton.cdiv(T, CHUNK)
    o_BHTV = v_BHTV.new_empty(v_BHTV.shape, dtype=torch.float32)
    next_BHKV = torch.empty_like(state_BHKV)
    if o_BHTV.numel() == 0:
        return o_BHTV, state_BHKV.clone()
    padded = torch.nn.functional.pad(wide(log_decay_BHT), (0, chunks * CHUNK - T))
    total = padded.unflatten(-1, (chunks, CHUNK)).cumsum(-1).contiguous()
    states = q_BHTK.new_empty(B, H, chunks, K, V)
    options = {"CHUNK": CHUNK, "TILE": TILE, "WIDE": not q_BHTK.is_cuda}
    state_kernel[(B * H, triton.cdiv(K, TILE), triton.cdiv(V, TILE))](
        k_BHTK, v_BHTV, total, state_BHKV, states, next_BHKV, T, chunks, K, V, **options, num_warps=WARPS
    )
    output_kernel[(B * H, chunks, triton.cdiv(V, TILE))](
        q_BHTK, k_BHTK, v_BHTV, total, states, o_BHTV, T, chunks, K, V, **options, num_warps=WARPS
    )
    return o_BHTV, next_BHKV


def recurrent(
    q_BHK: Tensor, k_BHK: Tensor, v_BHV: Tensor, log_decay_BH: Tensor, state_BHKV: Tensor
) -> tuple[Tensor, Tensor]:
    """As `reference.recurrent`, for contiguous tensors."""
    *_, K, V = state_BHKV.shape
    o_BHV = v_BHV.new_empty(v_BHV.shape, dtype=torch.float32)
    next_BHKV = torch.empty_like(state_BHKV)
    if o_BHV.numel():
        step_kernel[(log_decay_BH.numel(), triton.cdiv(V, TILE))](
            q_BHK, k_BHK, v_BHV, log_decay_BH, state_BHKV, o_BHV, next_BHKV, K, V, 32, TILE, num_warps=WARPS
        )
    return o_BHV, next_BHKV
