"""The LSTMs of a layer's spaces in C++ (`lstm.cpp`): events stay in order, so nothing is sorted or copied apart.

Legend: N events, K positions, D width, E = 4 · D gates, P spaces of the frame.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.kernels import native
from torch import Tensor
from torch.nn.functional import pad

from multiway_event_vision.ssla_det.spaces import Place

_NAMES = {torch.float32: "f32", torch.float64: "f64"}
_LANES = 16  # as in lstm.cpp


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions by name and data type; empty where they cannot be built."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    arguments = {"forward": (*[size] * 5, *[pointer] * 8), "backward": (*[size] * 5, *[pointer] * 9)}
    return native.functions(Path(__file__).with_name("lstm.cpp"), arguments, _NAMES)


def supports(gates: Tensor) -> bool:
    """Whether `advance` can run: float32 or float64 on a CPU, and a compiler."""
    return gates.is_cpu and ("forward", gates.dtype) in _functions()


def advance(
    gates_NKE: Tensor, recurrent_ED: Tensor, size: int, place: Place, state_PE: Tensor
) -> tuple[Tensor, Tensor]:
    """(h_NKD, 0 outside of the frame; moved state (P, 2 · D)) of events in canonical order; differentiable.

    As `lstm_scan` over the rows of each space; `gates_NKE` are the input's part of the gates.
    """
    h_NKD, moved_PE = _Advance.apply(gates_NKE, recurrent_ED, state_PE, place, size)
    return h_NKD, moved_PE


class _Advance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates_NKE: Tensor, recurrent_ED: Tensor, state_PE: Tensor, place: Place, size: int
    ) -> tuple[Tensor, Tensor]:
        N, K, D = *gates_NKE.shape[:2], recurrent_ED.shape[1]
        gates_NKE = gates_NKE.clone(memory_format=torch.contiguous_format)
        moved_PE = state_PE.clone(memory_format=torch.contiguous_format)
        h_NKD = gates_NKE.new_empty(N, K, D)
        learns = any(ctx.needs_input_grad)
        before_NKE = gates_NKE.new_empty(N, K, 2 * D) if learns else None
        tensors = (_padded(recurrent_ED.t()), gates_NKE, moved_PE, h_NKD, before_NKE)
        _call("forward", N, size, D, place, tensors)
        if learns:
            ctx.save_for_backward(gates_NKE, recurrent_ED, before_NKE)
            ctx.place, ctx.size = place, size
        return h_NKD, moved_PE

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_h_NKD: Tensor, grad_moved_PE: Tensor) -> tuple[Tensor | None, ...]:
        gates_NKE, recurrent_ED, before_NKE = ctx.saved_tensors
        N, _, D = grad_h_NKD.shape
        grad_gates_NKE = torch.empty_like(gates_NKE)
        grad_state_PE = grad_moved_PE.clone(memory_format=torch.contiguous_format)
        grad_h_NKD = grad_h_NKD.contiguous()
        tensors = (_padded(recurrent_ED), gates_NKE, before_NKE, grad_h_NKD, grad_state_PE, grad_gates_NKE)
        _call("backward", N, ctx.size, D, ctx.place, tensors)
        grad_recurrent_ED = grad_gates_NKE.flatten(0, 1).t() @ before_NKE.flatten(0, 1)[:, :D]
        return grad_gates_NKE, grad_recurrent_ED, grad_state_PE, None, None


def _padded(matrix: Tensor) -> Tensor:
    """Rows filled up to whole vectors."""
    return pad(matrix, (0, -matrix.shape[1] % _LANES)).contiguous()


def _call(name: str, N: int, size: int, D: int, place: Place, tensors: tuple[Tensor | None, ...]) -> None:
    where = [axis.contiguous() for axis in (place.stream_N, place.y_N, place.x_N)]
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in (*where, *tensors)]
    dtype = next(tensor.dtype for tensor in tensors if tensor is not None)
    _functions()[name, dtype](N, size, D, place.height, place.width, *pointers)
