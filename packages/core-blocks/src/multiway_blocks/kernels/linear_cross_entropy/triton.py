"""The losses on GPUs: logits live in registers, a tile at a time.

Operations, forward: 2 N E V (and 2 N F V for a teacher), with running log-sum-exps as in flash attention, so what is
written are a few numbers a row. Gradients: the same products again, their tiles turned into those of the logits'
gradient, which is written in the data type of x for some rows at a time and multiplied by PyTorch: 8 N E V in all.
Traffic: x and W once for every tile of the other; far below the time of the products, so the floor is the tensor cores.

Legend: N rows, V outputs, E inputs, F inputs of the teacher; a program takes TILE_N rows and, forward, a SHARE of V.
Logits are not rounded before the softmax, where the definition rounds them to the data type of x.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from multiway_blocks.kernels.linear_cross_entropy.reference import Teacher

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TILE_N = 64
TILE_V = {torch.float32: 64, torch.bfloat16: 128, torch.float16: 128}
TILE_E = {torch.float32: 32, torch.bfloat16: 64, torch.float16: 64}
WARPS = 8
STATISTICS = 7  # numbers a row and share of V, see `forward_kernel`
_PROGRAMS = 512
_GRADIENTS_AT_ONCE = 1 << 27  # logits' gradients written before they are multiplied


@triton.jit
def logits_tile(
    x_ptr, weight_ptr, rows, columns, N, V,
    E: tl.constexpr, TILE_N: tl.constexpr, TILE_V: tl.constexpr, TILE_E: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    total = tl.zeros((TILE_N, TILE_V), tl.float32)
    for start in range(0, E, TILE_E):
        inputs = start + tl.arange(0, TILE_E)
        x = tl.load(
            x_ptr + rows.to(tl.int64)[:, None] * E + inputs[None, :],
            (rows < N)[:, None] & (inputs < E)[None, :],
            other=0.0,
        )
        w = tl.load(
            weight_ptr + columns.to(tl.int64)[None, :] * E + inputs[:, None],
            (columns < V)[None, :] & (inputs < E)[:, None],
            other=0.0,
        )
        if WIDE:  # float32, and the interpreter, which knows no products of bfloat16
            total = tl.dot(x.to(tl.float32), w.to(tl.float32), total, input_precision="ieee")
        else:
            total = tl.dot(x, w, total)
    return total


@triton.jit
def forward_kernel(
    x_ptr, weight_ptr, target_ptr, teacher_x_ptr, teacher_weight_ptr, statistics_ptr, N, V, share, inverse_temperature,
    E: tl.constexpr, F: tl.constexpr, TILE_N: tl.constexpr, TILE_V: tl.constexpr, TILE_E: tl.constexpr,
    TILE_F: tl.constexpr, WIDE: tl.constexpr, WIDE_TEACHER: tl.constexpr,
):  # fmt: skip
    # statistics [shares of V, 7, N]: of the student's logits z the maximum m, sum of e^(z - m), the target's z, and the
    # sum of e^((z - m) / T); of the teacher's t the maximum, sum of e^((t - m) / T), and the sum of the latter's terms
    # times (t - z) / T.
    rows = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    target = tl.load(target_ptr + rows, rows < N, other=-1)
    # -1e30 stands in the place of minus infinity, whose differences are no numbers.
    peak = tl.full((TILE_N,), -1.0e30, tl.float32)
    total = tl.zeros((TILE_N,), tl.float32)
    picked = tl.zeros((TILE_N,), tl.float32)
    warm = tl.zeros((TILE_N,), tl.float32)
    teacher_peak = tl.full((TILE_N,), -1.0e30, tl.float32)
    teacher_total = tl.zeros((TILE_N,), tl.float32)
    cross = tl.zeros((TILE_N,), tl.float32)
    start = tl.program_id(1) * share
    end = tl.minimum(start + share, V)
    for first in range(start, end, TILE_V):
        columns = first + tl.arange(0, TILE_V)
        inside = (columns < end)[None, :]
        z = logits_tile(x_ptr, weight_ptr, rows, columns, N, V, E, TILE_N, TILE_V, TILE_E, WIDE)
        picked += tl.sum(tl.where(columns[None, :] == target[:, None], z, 0.0), axis=1)
        z = tl.where(inside, z, -1.0e30)
        next_peak = tl.maximum(peak, tl.max(z, axis=1))
        total = total * tl.exp(peak - next_peak) + tl.sum(tl.exp(z - next_peak[:, None]), axis=1)
        if teacher_x_ptr is not None:
            warm = warm * tl.exp((peak - next_peak) * inverse_temperature)
            warm += tl.sum(tl.exp((z - next_peak[:, None]) * inverse_temperature), axis=1)
            t = logits_tile(
                teacher_x_ptr,
                teacher_weight_ptr,
                rows,
                columns,
                N,
                V,
                F,
                TILE_N,
                TILE_V,
                TILE_F,
                WIDE_TEACHER,
            )
            t = tl.where(inside, t, -1.0e30)
            next_teacher = tl.maximum(teacher_peak, tl.max(t, axis=1))
            shrunk = tl.exp((teacher_peak - next_teacher) * inverse_temperature)
            terms = tl.exp((t - next_teacher[:, None]) * inverse_temperature)
            teacher_total = teacher_total * shrunk + tl.sum(terms, axis=1)
            cross = cross * shrunk + tl.sum(terms * (t - z) * inverse_temperature, axis=1)
            teacher_peak = next_teacher
        peak = next_peak
    place = statistics_ptr + tl.program_id(1).to(tl.int64) * 7 * N + rows
    tl.store(place, peak, rows < N)
    tl.store(place + N, total, rows < N)
    tl.store(place + 2 * N, picked, rows < N)
    if teacher_x_ptr is not None:
        tl.store(place + 3 * N, warm, rows < N)
        tl.store(place + 4 * N, teacher_peak, rows < N)
        tl.store(place + 5 * N, teacher_total, rows < N)
        tl.store(place + 6 * N, cross, rows < N)


@triton.jit
def gradient_kernel(
    x_ptr, weight_ptr, target_ptr, row_weight_ptr, lse_ptr, teacher_x_ptr, teacher_weight_ptr, teacher_row_weight_ptr,
    warm_lse_ptr, teacher_lse_ptr, grad_ptr, N, V, inverse_temperature,
    E: tl.constexpr, F: tl.constexpr, TILE_N: tl.constexpr, TILE_V: tl.constexpr, TILE_E: tl.constexpr,
    TILE_F: tl.constexpr, WIDE: tl.constexpr, WIDE_TEACHER: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    columns = tl.program_id(1) * TILE_V + tl.arange(0, TILE_V)
    z = logits_tile(x_ptr, weight_ptr, rows, columns, N, V, E, TILE_N, TILE_V, TILE_E, WIDE)
    target = tl.load(target_ptr + rows, rows < N, other=-1)
    lse = tl.load(lse_ptr + rows, rows < N, other=0.0)
    grad = tl.exp(z - lse[:, None]) - tl.where(columns[None, :] == target[:, None], 1.0, 0.0)
    grad *= tl.load(row_weight_ptr + rows, rows < N, other=0.0)[:, None]
    if teacher_x_ptr is not None:
        t = logits_tile(
            teacher_x_ptr, teacher_weight_ptr, rows, columns, N, V, F, TILE_N, TILE_V, TILE_F, WIDE_TEACHER
        )
        warm_lse = tl.load(warm_lse_ptr + rows, rows < N, other=0.0)[:, None]
        teacher_lse = tl.load(teacher_lse_ptr + rows, rows < N, other=0.0)[:, None]
        student = tl.exp(z * inverse_temperature - warm_lse)
        difference = student - tl.exp(t * inverse_temperature - teacher_lse)
        factor = tl.load(teacher_row_weight_ptr + rows, rows < N, other=0.0) / inverse_temperature
        grad += factor[:, None] * difference
    places = rows.to(tl.int64)[:, None] * V + columns[None, :]
    mask = (rows < N)[:, None] & (columns < V)[None, :]
    tl.store(grad_ptr + places, grad.to(grad_ptr.dtype.element_ty), mask)


def supports(dtype: torch.dtype) -> bool:
    """Whether the kernels take x of this data type."""
    return dtype in _DTYPES


def forward(
    x_NE: Tensor,
    weight_VE: Tensor,
    target_N: Tensor,
    row_weight_N: Tensor,
    teacher: Teacher | None,
    needed: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `chunks.forward`, for contiguous tensors."""
    N, V = len(x_NE), len(weight_VE)
    tiles, tile_v = triton.cdiv(N, TILE_N), TILE_V[x_NE.dtype]
    shares = max(1, min(triton.cdiv(V, 4 * tile_v), _PROGRAMS // max(1, tiles)))
    share = triton.cdiv(triton.cdiv(V, shares), tile_v) * tile_v
    shares = triton.cdiv(V, share)
    statistics = x_NE.new_empty((shares, STATISTICS, N), dtype=torch.float32)
    T = 1.0 if teacher is None else teacher.temperature
    teachers = (None, None) if teacher is None else (teacher.x_NF, teacher.weight_VF)
    sizes = _sizes(x_NE, teacher)
    if N:
        forward_kernel[(tiles, shares)](
            x_NE, weight_VE, target_N, *teachers, statistics, N, V, share, 1 / T, **sizes, num_warps=WARPS
        )
    peak, total, picked, warm, teacher_peak, teacher_total, cross = statistics.unbind(1)
    highest = peak.amax(0)
    lse_N = (total * (peak - highest).exp()).sum(0).log() + highest
    cross_entropy = (row_weight_N * (lse_N - picked.sum(0))).sum()
    lses: tuple[Tensor, ...]
    divergence, lses = cross_entropy.new_zeros(()), ()
    if teacher is not None:
        warm_lse_N = (warm * ((peak - highest) / T).exp()).sum(0).log() + highest / T
        teacher_highest = teacher_peak.amax(0)
        shrunk = ((teacher_peak - teacher_highest) / T).exp()
        teacher_sum_N = (teacher_total * shrunk).sum(0)
        teacher_lse_N = teacher_sum_N.log() + teacher_highest / T
        # KL = sum of p (t - z) / T - lse(t / T) + lse(z / T).
        divergence_N = (cross * shrunk).sum(0) / teacher_sum_N - teacher_lse_N + warm_lse_N
        divergence = T**2 * (teacher.row_weight_N * divergence_N).sum()
        lses = (warm_lse_N, teacher_lse_N)
    grad_x_NE = torch.empty_like(x_NE) if needed[0] else x_NE.new_empty(0)
    grad_weight_VE = (
        torch.zeros_like(weight_VE, dtype=torch.float32) if needed[1] else statistics.new_empty(0)
    )
    if any(needed):
        step = max(TILE_N, _GRADIENTS_AT_ONCE // V // TILE_N * TILE_N)
        for start in range(0, N, step):
            part = slice(start, start + step)
            x_RE = x_NE[part]
            grad_RV = x_NE.new_empty(len(x_RE), V)
            follow: tuple[Tensor | None, ...] = (None,) * 5
            if teacher is not None:
                follow = (
                    teacher.x_NF[part], teacher.weight_VF, teacher.row_weight_N[part], *(lse[part] for lse in lses)
                )  # fmt: skip
            gradient_kernel[(triton.cdiv(len(x_RE), TILE_N), triton.cdiv(V, tile_v))](
                x_RE, weight_VE, target_N[part], row_weight_N[part], lse_N[part], *follow, grad_RV, len(x_RE), V, 1 / T,
                **sizes, num_warps=WARPS,
            )  # fmt: skip
            if needed[0]:
                grad_x_NE[part] = grad_RV @ weight_VE
            if needed[1]:
                grad_weight_VE += grad_RV.t() @ x_RE
    return cross_entropy, divergence, grad_x_NE, grad_weight_VE


def _sizes(x_NE: Tensor, teacher: Teacher | None) -> dict[str, int | bool]:
    other = x_NE if teacher is None else teacher.x_NF
    return {
        "E": x_NE.shape[1],
        "F": other.shape[1],
        "TILE_N": TILE_N,
        "TILE_V": TILE_V[x_NE.dtype],
        "TILE_E": TILE_E[x_NE.dtype],
        "TILE_F": TILE_E[other.dtype],
        "WIDE": x_NE.dtype == torch.float32 or not x_NE.is_cuda,
        "WIDE_TEACHER": other.dtype == torch.float32 or not x_NE.is_cuda,
    }
