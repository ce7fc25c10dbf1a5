"""The product on CPUs: `cpu.cpp`, built on first use for the processor that it runs on."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from multiway_blocks.kernels import native
from multiway_blocks.kernels.block_linear import layout

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
# Below this many products waking other threads costs more than it saves.
_PRODUCTS_FOR_THREADS = 1 << 19


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer, size, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    matrix = (pointer, pointer, pointer, size, flag)
    arguments = {
        "linear": (pointer, size, size, *matrix, pointer, flag),
        "quantize": (pointer, size, *[pointer] * 4),
        "multiply": (*[pointer] * 4, size, size, *matrix, pointer, flag),
    }
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, _NAMES)


def supports(dtype: torch.dtype) -> bool:
    """Whether there is machine code for results of this data type."""
    return dtype in _NAMES and ("linear", dtype) in _functions()


def addresses(dtype: torch.dtype) -> tuple[int, int]:
    """Where `quantize` and `multiply` lie, for machine code that calls them."""
    return native.address(_functions()["quantize", dtype]), native.address(_functions()["multiply", dtype])


def form(codes: Tensor, scale: Tensor) -> int:
    """How a matrix is held, as `cpu.cpp` is told: 1 for two codes in a byte, and 2 for scales of float16."""
    return int(layout.is_packed(codes)) + 2 * int(scale.dtype == torch.float16)


def forward(x_NI: Tensor, codes: Tensor, scale: Tensor, offset: Tensor, outputs: int) -> Tensor:
    """As `reference.forward`, for contiguous tensors."""
    rows, inputs = x_NI.shape
    y_NO = x_NI.new_empty(rows, outputs)
    threads = torch.get_num_threads() if rows * outputs * inputs >= _PRODUCTS_FOR_THREADS else 1
    _functions()["linear", x_NI.dtype](
        x_NI.data_ptr(),
        rows,
        inputs,
        codes.data_ptr(),
        scale.data_ptr(),
        offset.data_ptr(),
        outputs,
        form(codes, scale),
        y_NO.data_ptr(),
        threads,
    )
    return y_NO
