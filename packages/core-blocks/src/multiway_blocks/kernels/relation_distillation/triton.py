"""Distillation of relations on GPUs: products live in registers, a tile at a time, as in flash attention.

Operations: 2 G L^2 (D + F) forward, and 2 G L^2 (2 D + F) backward. Traffic: each group's rows once for every tile of
rows, from the second-level cache. With widths of 32 to 128 the floor is the exponentials (2 for each pair of tokens),
then the tensor cores. Memory beside the arguments: three numbers a row.

Legend: as in `reference.py`; a program takes TILE rows of a group, and TILE others at a time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_DTYPES = (
    torch.bfloat16,
    torch.float16,
)  # products of float32 have no tensor cores, and PyTorch's are as good
MAX_WIDTH = 64  # of a row, which is held as a whole; beyond this registers are spilled
TILE = 64
WARPS = 4


@triton.jit
def products(a, b, WIDE: tl.constexpr):
    if WIDE:  # the interpreter knows no products of bfloat16
        return tl.dot(a.to(tl.float32), tl.trans(b.to(tl.float32)), input_precision="ieee")
    return tl.dot(a, tl.trans(b))


@triton.jit
def load_rows(ptr, group, rows, L, D: tl.constexpr, TILE_D: tl.constexpr):
    # From the group's start, in 32 bits: addresses of 64 would take twice the registers.
    columns = tl.arange(0, TILE_D)
    places = rows[:, None] * D + columns[None, :]
    start = ptr + group.to(tl.int64) * L * D
    return tl.load(start + places, (rows < L)[:, None] & (columns < D)[None, :], other=0.0)


@triton.jit
def forward_kernel(
    student_ptr, teacher_ptr, kl_ptr, student_lse_ptr, teacher_lse_ptr, L, scale,
    D: tl.constexpr, F: tl.constexpr, TILE: tl.constexpr, TILE_D: tl.constexpr, TILE_F: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    # A row's own product is 1, so e^(scale (s - 1)) is at most 1 and its sum at least 1: no running maximum is needed.
    group = tl.program_id(1)
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    student = load_rows(student_ptr, group, rows, L, D, TILE_D)
    teacher = load_rows(teacher_ptr, group, rows, L, F, TILE_F)
    student_total = tl.zeros((TILE,), tl.float32)
    teacher_total = tl.zeros((TILE,), tl.float32)
    cross = tl.zeros((TILE,), tl.float32)
    for start in range(0, L, TILE):
        others = start + tl.arange(0, TILE)
        inside = (others < L)[None, :]
        s = products(student, load_rows(student_ptr, group, others, L, D, TILE_D), WIDE)
        t = products(teacher, load_rows(teacher_ptr, group, others, L, F, TILE_F), WIDE)
        share = tl.where(inside, tl.exp((t - 1.0) * scale), 0.0)
        student_total += tl.sum(tl.where(inside, tl.exp((s - 1.0) * scale), 0.0), axis=1)
        teacher_total += tl.sum(share, axis=1)
        cross += tl.sum(share * (t - s), axis=1)
    places = group.to(tl.int64) * L + rows
    student_log, teacher_log = tl.log(student_total), tl.log(teacher_total)
    tl.store(kl_ptr + places, cross * scale / teacher_total + student_log - teacher_log, rows < L)
    tl.store(student_lse_ptr + places, student_log + scale, rows < L)
    tl.store(teacher_lse_ptr + places, teacher_log + scale, rows < L)


@triton.jit
def backward_kernel(
    grad_ptr, student_ptr, teacher_ptr, student_lse_ptr, teacher_lse_ptr, result_ptr, L, scale,
    D: tl.constexpr, F: tl.constexpr, TILE: tl.constexpr, TILE_D: tl.constexpr, TILE_F: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    # The derivation is in reference.py; the coefficients are symmetric, so that a program meets all that its rows get.
    group = tl.program_id(1)
    first = group.to(tl.int64) * L
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    student = load_rows(student_ptr, group, rows, L, D, TILE_D)
    teacher = load_rows(teacher_ptr, group, rows, L, F, TILE_F)
    grad = tl.load(grad_ptr + first + rows, rows < L, other=0.0).to(tl.float32)
    own_s = grad * tl.exp(scale - tl.load(student_lse_ptr + first + rows, rows < L, other=0.0))
    own_t = grad * tl.exp(scale - tl.load(teacher_lse_ptr + first + rows, rows < L, other=0.0))
    total = tl.zeros((TILE, TILE_D), tl.float32)
    for start in range(0, L, TILE):
        others = start + tl.arange(0, TILE)
        students = load_rows(student_ptr, group, others, L, D, TILE_D)
        s = products(student, students, WIDE)
        t = products(teacher, load_rows(teacher_ptr, group, others, L, F, TILE_F), WIDE)
        other_grad = tl.load(grad_ptr + first + others, others < L, other=0.0).to(tl.float32)
        other_s = other_grad * tl.exp(
            scale - tl.load(student_lse_ptr + first + others, others < L, other=0.0)
        )
        other_t = other_grad * tl.exp(
            scale - tl.load(teacher_lse_ptr + first + others, others < L, other=0.0)
        )
        c = tl.exp((s - 1.0) * scale) * (own_s[:, None] + other_s[None, :])
        c -= tl.exp((t - 1.0) * scale) * (own_t[:, None] + other_t[None, :])
        if WIDE:  # rows behind the end are zeros, and so is what they add
            total = tl.dot(c, students.to(tl.float32), total, input_precision="ieee")
        else:
            total = tl.dot(c.to(students.dtype), students, total)
    columns = tl.arange(0, TILE_D)
    places = rows[:, None] * D + columns[None, :]
    mask = (rows < L)[:, None] & (columns < D)[None, :]
    tl.store(result_ptr + first * D + places, (total * scale).to(result_ptr.dtype.element_ty), mask)


def supports(student: torch.dtype, teacher: torch.dtype, width: int) -> bool:
    """Whether the kernels take rows of these data types, the wider ones ``width`` wide."""
    return student in _DTYPES and teacher == student and width <= MAX_WIDTH


def sizes(x_GLD: Tensor, teacher_GLF: Tensor) -> dict[str, int | bool]:
    """The kernels' constants."""
    D, F = x_GLD.shape[2], teacher_GLF.shape[2]
    return {
        "D": D,
        "F": F,
        "TILE": TILE,
        "TILE_D": max(16, triton.next_power_of_2(D)),
        "TILE_F": max(16, triton.next_power_of_2(F)),
        "WIDE": not x_GLD.is_cuda,
    }


def forward(student_GLD: Tensor, teacher_GLF: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.forward`, for contiguous tensors."""
    groups, length, _ = student_GLD.shape
    kl, student, teacher = (student_GLD.new_empty((groups, length), dtype=torch.float32) for _ in range(3))
    if kl.numel():
        forward_kernel[(triton.cdiv(length, TILE), groups)](
            student_GLD, teacher_GLF, kl, student, teacher, length, scale, **sizes(student_GLD, teacher_GLF),
            num_warps=WARPS,
        )  # fmt: skip
    return kl, student, teacher


def backward(
    grad_GL: Tensor,
    student_GLD: Tensor,
    teacher_GLF: Tensor,
    scale: float,
    student_GL: Tensor,
    teacher_GL: Tensor,
) -> Tensor:
    """As `reference.backward`, for contiguous tensors."""
    groups, length, _ = student_GLD.shape
    result = torch.empty_like(student_GLD)
    if result.numel():
        backward_kernel[(triton.cdiv(length, TILE), groups)](
            grad_GL, student_GLD, teacher_GLF, student_GL, teacher_GL, result, length, scale,
            **sizes(student_GLD, teacher_GLF), num_warps=WARPS,
        )  # fmt: skip
    return result
