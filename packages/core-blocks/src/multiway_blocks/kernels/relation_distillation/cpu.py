"""Distillation of relations on CPUs: PyTorch's products by chunks (`chunks.py`), exponentials and sums by `cpu.cpp`."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from multiway_blocks.kernels import native
from multiway_blocks.kernels.relation_distillation import chunks

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@functools.cache
def _functions() -> dict[tuple[str, str], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer, size, number, count = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
    arguments = {
        "divergence": (pointer, pointer, size, size, number, *[pointer] * 3, count),
        "coefficients": (pointer, pointer, size, size, size, number, *[pointer] * 3, count),
    }
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, {"f32": "f32"})


def supports(dtype: torch.dtype) -> bool:
    """Whether there is machine code for rows of this data type, which are widened to float32."""
    return dtype in _DTYPES and bool(_functions())


def forward(student_GLD: Tensor, teacher_GLF: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.forward`."""
    return chunks.forward(student_GLD, teacher_GLF, scale, sys.modules[__name__])


def backward(
    grad_GL: Tensor,
    student_GLD: Tensor,
    teacher_GLF: Tensor,
    scale: float,
    student_GL: Tensor,
    teacher_GL: Tensor,
) -> Tensor:
    """As `reference.backward`."""
    return chunks.backward(
        grad_GL, student_GLD, teacher_GLF, scale, student_GL, teacher_GL, sys.modules[__name__]
    )


def divergence(s_GRL: Tensor, t_GRL: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `chunks.divergence`, for contiguous float32."""
    groups, rows, length = s_GRL.shape
    results = [s_GRL.new_empty(groups, rows) for _ in range(3)]
    _functions()["divergence", "f32"](
        s_GRL.data_ptr(),
        t_GRL.data_ptr(),
        groups * rows,
        length,
        scale,
        *(result.data_ptr() for result in results),
        torch.get_num_threads(),
    )
    return results[0], results[1], results[2]


def coefficients(s_GRL: Tensor, t_GRL: Tensor, scale: float, rows: Tensor, columns: Tensor) -> None:
    """As `chunks.coefficients`, for contiguous float32."""
    factors = s_GRL.new_empty(2, s_GRL.shape[2])
    _functions()["coefficients", "f32"](
        s_GRL.data_ptr(),
        t_GRL.data_ptr(),
        *s_GRL.shape,
        scale,
        rows.data_ptr(),
        columns.data_ptr(),
        factors.data_ptr(),
        torch.get_num_threads(),
    )
