"""Modulated RMSNorm on CPUs: `cpu.cpp`, built on first use, float32 and bfloat16."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from multiway_blocks.kernels import native
from multiway_blocks.kernels.adaln_modulate.reference import Gradients

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
# Below this many elements a call takes some 10 microseconds; waking other threads costs more than it saves.
_ELEMENTS_FOR_THREADS = 65_536
_ROWS_A_BLOCK = 128
_MAX_BLOCKS = 64


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer, size, number, count = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
    arguments = {
        "forward": (*[pointer] * 6, number, *[size] * 3, *[pointer] * 3, count),
        "backward": (*[pointer] * 8, *[size] * 3, *[pointer] * 6, size, count),
    }
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, _NAMES)


def supports(dtype: torch.dtype) -> bool:
    """Whether there is machine code for this data type, which all but the weight must have."""
    return dtype in _NAMES and bool(_functions())


def forward(
    x_ND: Tensor,
    gate_MD: Tensor | None,
    residual_ND: Tensor | None,
    weight_D: Tensor | None,
    shift_MD: Tensor,
    scale_MD: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.forward`, for contiguous tensors."""
    (N, D), M = x_ND.shape, len(shift_MD)
    y_ND = torch.empty_like(x_ND)
    total_ND = x_ND if residual_ND is None else torch.empty_like(x_ND)
    inverse_rms_N1 = x_ND.new_empty((N, 1), dtype=torch.float32)
    weight = _scale(weight_D, D)
    _functions()["forward", x_ND.dtype](
        x_ND.data_ptr(), _pointer(gate_MD), _pointer(residual_ND), weight.data_ptr(), shift_MD.data_ptr(),
        scale_MD.data_ptr(), eps, M, N // max(1, M), D, total_ND.data_ptr(), y_ND.data_ptr(),
        inverse_rms_N1.data_ptr(), _threads(x_ND),
    )  # fmt: skip
    return y_ND, total_ND, inverse_rms_N1


def backward(
    grad_y_ND: Tensor,
    grad_total_ND: Tensor | None,
    total_ND: Tensor,
    x_ND: Tensor | None,
    gate_MD: Tensor | None,
    weight_D: Tensor | None,
    scale_MD: Tensor,
    inverse_rms_N1: Tensor,
) -> Gradients:
    """As `reference.backward`, for contiguous tensors of one data type."""
    (N, D), M = total_ND.shape, len(scale_MD)
    blocks = max(1, min(_MAX_BLOCKS, M, -(-N // _ROWS_A_BLOCK)))
    result_ND = torch.empty_like(total_ND)
    grad_x_ND = total_ND.new_empty(0) if x_ND is None else torch.empty_like(x_ND)
    grad_shift, grad_scale = (inverse_rms_N1.new_zeros(M, D) for _ in range(2))
    grad_gate = inverse_rms_N1.new_zeros(0 if x_ND is None else (M, D))
    grad_weight = inverse_rms_N1.new_zeros(blocks, D)
    weight = _scale(weight_D, D)
    _functions()["backward", total_ND.dtype](
        grad_y_ND.data_ptr(), _pointer(grad_total_ND), total_ND.data_ptr(), _pointer(x_ND), _pointer(gate_MD),
        weight.data_ptr(), scale_MD.data_ptr(), inverse_rms_N1.data_ptr(), M, N // max(1, M), D, result_ND.data_ptr(),
        grad_x_ND.data_ptr(), grad_gate.data_ptr(), grad_shift.data_ptr(), grad_scale.data_ptr(),
        grad_weight.data_ptr(), blocks, _threads(total_ND),
    )  # fmt: skip
    return Gradients(
        result_ND,
        grad_x_ND,
        grad_gate,
        grad_shift,
        grad_scale,
        grad_weight.new_empty(0) if weight_D is None else grad_weight.sum(0),
    )


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _scale(weight: Tensor | None, D: int) -> Tensor:
    return torch.ones(D) if weight is None else weight.to(torch.float32).contiguous()


def _threads(x: Tensor) -> int:
    return torch.get_num_threads() if x.numel() >= _ELEMENTS_FOR_THREADS else 1
