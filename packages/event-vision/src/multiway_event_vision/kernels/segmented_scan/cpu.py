"""The segmented scan on CPUs: `cpu.cpp`, built on first use; without a compiler the definition runs."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from multiway_blocks.kernels import native
from torch import Tensor

_NAMES = {torch.float32: "f32", torch.float64: "f64"}
# Below this many elements waking other threads costs more than it saves.
_ELEMENTS_FOR_THREADS = 65_536


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions by direction and data type; empty where they cannot be built."""
    pointer, size, count = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    arguments = {
        "forward": (*[pointer] * 4, size, size, pointer, count),
        "backward": (*[pointer] * 5, size, size, *[pointer] * 3, count),
    }
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, _NAMES)


def supports(dtype: torch.dtype) -> bool:
    """Whether there is machine code for rows of this data type."""
    return dtype in _NAMES and bool(_functions())


def forward(u_RD: Tensor, g_RD: Tensor, offsets: Tensor, initial_SD: Tensor) -> Tensor:
    """As `reference.forward`, for contiguous tensors of one data type."""
    h_RD = torch.empty_like(u_RD)
    _functions()["forward", u_RD.dtype](
        u_RD.data_ptr(),
        g_RD.data_ptr(),
        offsets.data_ptr(),
        initial_SD.data_ptr(),
        *initial_SD.shape,
        h_RD.data_ptr(),
        _threads(u_RD),
    )
    return h_RD


def backward(
    grad_h_RD: Tensor, g_RD: Tensor, h_RD: Tensor, offsets: Tensor, initial_SD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.backward`, for contiguous tensors of one data type."""
    grad_u_RD, grad_g_RD = torch.empty_like(h_RD), torch.empty_like(h_RD)
    grad_initial_SD = torch.empty_like(initial_SD)
    _functions()["backward", h_RD.dtype](
        grad_h_RD.data_ptr(),
        g_RD.data_ptr(),
        h_RD.data_ptr(),
        offsets.data_ptr(),
        initial_SD.data_ptr(),
        *initial_SD.shape,
        grad_u_RD.data_ptr(),
        grad_g_RD.data_ptr(),
        grad_initial_SD.data_ptr(),
        _threads(h_RD),
    )
    return grad_u_RD, grad_g_RD, grad_initial_SD


def _threads(rows: Tensor) -> int:
    return torch.get_num_threads() if rows.numel() >= _ELEMENTS_FOR_THREADS else 1
