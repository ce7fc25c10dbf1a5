"""Products of few rows with a large matrix on CPUs: `cpu.cpp`, built on first use, float32 and bfloat16."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from multiway_blocks.kernels import native

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    arguments = {"linear": (pointer, size, size, pointer, size, pointer, pointer, ctypes.c_int)}
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, _NAMES)


def supports(dtype: torch.dtype) -> bool:
    """Whether there is machine code for this data type."""
    return dtype in _NAMES and ("linear", dtype) in _functions()


def forward(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``x weight^T + bias`` (N, O) of contiguous tensors of one data type; sums are taken in float32."""
    rows, inputs = x_NI.shape
    outputs = weight_OI.shape[0]
    y_NO = x_NI.new_empty(rows, outputs)
    _functions()["linear", x_NI.dtype](
        x_NI.data_ptr(),
        rows,
        inputs,
        weight_OI.data_ptr(),
        outputs,
        None if bias_O is None else bias_O.data_ptr(),
        y_NO.data_ptr(),
        torch.get_num_threads(),
    )
    return y_NO
