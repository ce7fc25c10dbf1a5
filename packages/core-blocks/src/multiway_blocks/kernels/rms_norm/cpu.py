"""RMSNorm on CPUs: `cpu.cpp`, built on first use.

float32 and bfloat16, also mixed (bfloat16 branches on a float32 residual stream). For other types, and where
there is no compiler, the definition runs.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from multiway_blocks.kernels import native

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
# Below this many elements a call takes some 10 microseconds; waking other threads costs more than it saves.
_ELEMENTS_FOR_THREADS = 65_536
_ROWS_A_BLOCK = 128
_MAX_BLOCKS = 64


@functools.cache
def _functions() -> dict[tuple[str, str], Callable[..., None]]:
    """The C functions by direction and pair of data types, e.g. `bf16_f32`; empty where they cannot be built."""
    pointer, size, number, count = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
    arguments = {
        "forward": (*[pointer] * 3, number, size, size, *[pointer] * 3, count),
        "backward": (*[pointer] * 5, size, size, *[pointer] * 2, size, count),
    }
    pairs = [f"{first}_{second}" for first, second in itertools.product(_NAMES.values(), repeat=2)]
    return native.functions(
        Path(__file__).with_name("cpu.cpp"), arguments, dict(zip(pairs, pairs, strict=True))
    )


def supports(x: torch.dtype, other: torch.dtype) -> bool:
    """Whether there is machine code for `x` with this data type of the residual, or of the gradient."""
    return x in _NAMES and other in _NAMES and bool(_functions())


def forward(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.forward`, for contiguous tensors."""
    D = x.shape[-1]
    y = torch.empty_like(x)
    inverse_rms = x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
    weight = _scale(weight, D)
    total, pair = x, f"{_NAMES[x.dtype]}_{_NAMES[x.dtype]}"
    if residual is not None:
        total = torch.empty_like(x, dtype=torch.promote_types(x.dtype, residual.dtype))
        pair = f"{_NAMES[x.dtype]}_{_NAMES[residual.dtype]}"
    _functions()["forward", pair](
        x.data_ptr(),
        None if residual is None else residual.data_ptr(),
        weight.data_ptr(),
        eps,
        x.numel() // D,
        D,
        total.data_ptr(),
        y.data_ptr(),
        inverse_rms.data_ptr(),
        _threads(x),
    )
    return y, total, inverse_rms


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor | None, inverse_rms: Tensor, grad_x: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `reference.backward`, for contiguous tensors; `grad_x` in the data type of `x`."""
    D = x.shape[-1]
    N = x.numel() // D
    result = torch.empty_like(x)
    blocks = max(1, min(_MAX_BLOCKS, -(-N // _ROWS_A_BLOCK)))
    grad_weight = x.new_zeros((blocks, D), dtype=torch.float32)
    scale = _scale(weight, D)
    _functions()["backward", f"{_NAMES[grad_y.dtype]}_{_NAMES[x.dtype]}"](
        grad_y.data_ptr(),
        x.data_ptr(),
        scale.data_ptr(),
        inverse_rms.data_ptr(),
        None if grad_x is None else grad_x.data_ptr(),
        N,
        D,
        result.data_ptr(),
        grad_weight.data_ptr(),
        blocks,
        _threads(x),
    )
    return result, grad_weight.sum(0) if weight is not None else grad_weight.new_empty(0)


def _scale(weight: Tensor | None, D: int) -> Tensor:
    return torch.ones(D) if weight is None else weight.to(torch.float32).contiguous()


def _threads(x: Tensor) -> int:
    return torch.get_num_threads() if x.numel() >= _ELEMENTS_FOR_THREADS else 1
