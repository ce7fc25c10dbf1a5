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
_MANY_ROWS = 16
"""From so many rows on, unpacking the weights and a product in floating point (AMX, where it is) is faster."""
_UNPACKED = 1 << 22
"""Weights that are unpacked at a time."""


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer, size, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    matrix = (pointer, pointer, pointer, size, flag)
    arguments = {
        "linear": (pointer, size, size, *matrix, pointer, flag),
        "dequantize": (size, *matrix, pointer, flag),
    }
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, _NAMES)


def supports(dtype: torch.dtype) -> bool:
    """Whether there is machine code for results of this data type."""
    return dtype in _NAMES and ("linear", dtype) in _functions()


def forward(x_NI: Tensor, codes: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> Tensor:
    """As `reference.forward`, for contiguous tensors; from 16 rows on x is not rounded."""
    (rows, inputs), outputs = x_NI.shape, len(codes)
    if rows >= _MANY_ROWS:
        return _many(x_NI, codes, scale_OG, offset_OG)
    y_NO = x_NI.new_empty(rows, outputs)
    threads = torch.get_num_threads() if rows * outputs * inputs >= _PRODUCTS_FOR_THREADS else 1
    matrix = _matrix(codes, scale_OG, offset_OG)
    _functions()["linear", x_NI.dtype](x_NI.data_ptr(), rows, inputs, *matrix, y_NO.data_ptr(), threads)
    return y_NO


def _many(x_NI: Tensor, codes: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> Tensor:
    inputs = x_NI.shape[1]
    at_once = max(_UNPACKED // max(inputs, 1), 1)
    found = []
    for part in zip(*(tensor.split(at_once) for tensor in (codes, scale_OG, offset_OG)), strict=True):
        weight_OI = x_NI.new_empty(len(part[0]), inputs)
        _functions()["dequantize", x_NI.dtype](
            inputs, *_matrix(*part), weight_OI.data_ptr(), torch.get_num_threads()
        )
        found.append(x_NI @ weight_OI.t())
    return torch.cat(found, dim=1) if len(found) != 1 else found[0]


def _matrix(codes: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> tuple[int, int, int, int, int]:
    packed = layout.is_packed(codes, scale_OG)
    return codes.data_ptr(), scale_OG.data_ptr(), offset_OG.data_ptr(), len(codes), int(packed)
