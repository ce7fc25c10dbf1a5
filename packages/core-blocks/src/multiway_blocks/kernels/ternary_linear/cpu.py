"""The ternary product on CPUs: `cpu.cpp`, built on first use for the processor that it runs on."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from multiway_blocks.kernels import native

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
# Below this many weights waking other threads costs more than it saves.
_WEIGHTS_FOR_THREADS = 1 << 19


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    arguments = {"linear": (pointer, pointer, size, size, pointer, pointer, size, pointer, ctypes.c_int)}
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, _NAMES)


def supports(dtype: torch.dtype) -> bool:
    """Whether there is machine code for results of this data type."""
    return dtype in _NAMES and ("linear", dtype) in _functions()


def address(dtype: torch.dtype) -> int:
    """Where the machine code for a data type lies, for other machine code to call."""
    return native.address(_functions()["linear", dtype])


def forward(x_NI: Tensor, step_N: Tensor, packed_OP: Tensor, scale_O: Tensor, dtype: torch.dtype) -> Tensor:
    """As `reference.forward`, for contiguous tensors."""
    rows, inputs = x_NI.shape
    outputs, packed_bytes = packed_OP.shape
    padded = 4 * packed_bytes
    if padded != inputs:
        x_NI = nn.functional.pad(x_NI, (0, padded - inputs))
    y_NO = step_N.new_empty(rows, outputs, dtype=dtype)
    _functions()["linear", dtype](
        x_NI.data_ptr(),
        step_N.data_ptr(),
        rows,
        padded,
        packed_OP.data_ptr(),
        scale_O.data_ptr(),
        outputs,
        y_NO.data_ptr(),
        torch.get_num_threads() if rows * outputs * inputs >= _WEIGHTS_FOR_THREADS else 1,
    )
    return y_NO
