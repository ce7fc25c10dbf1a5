"""RMSNorm and quantisation on CPUs: `cpu.cpp`, built on first use, float32 and bfloat16."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from multiway_blocks.kernels import native

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
# Below this many elements waking other threads costs more than it saves.
_ELEMENTS_FOR_THREADS = 65_536


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    arguments = {"forward": (pointer, pointer, ctypes.c_float, size, size, pointer, pointer, ctypes.c_int)}
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, _NAMES)


def supports(dtype: torch.dtype) -> bool:
    """Whether there is machine code for this data type."""
    return dtype in _NAMES and ("forward", dtype) in _functions()


def address(dtype: torch.dtype) -> int:
    """Where the machine code for a data type lies, for other machine code to call."""
    return native.address(_functions()["forward", dtype])


def forward(x_ND: Tensor, weight_D: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """As `reference.forward`, for contiguous `x`."""
    rows, features = x_ND.shape
    scale = torch.ones(features) if weight_D is None else weight_D.to(torch.float32).contiguous()
    values = torch.empty_like(x_ND, dtype=torch.int8)
    step = x_ND.new_empty(rows, dtype=torch.float32)
    _functions()["forward", x_ND.dtype](
        x_ND.data_ptr(),
        scale.data_ptr(),
        eps,
        rows,
        features,
        values.data_ptr(),
        step.data_ptr(),
        torch.get_num_threads() if x_ND.numel() >= _ELEMENTS_FOR_THREADS else 1,
    )
    return values, step
