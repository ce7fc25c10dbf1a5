"""Attention of one query on CPUs: `cpu.cpp`, built on first use, float32 and bfloat16."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from multiway_blocks.kernels import native

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
_ELEMENTS_FOR_THREADS = 262_144  # of keys and values; below, waking other threads costs more than it saves
_Numbers = ctypes.c_int64 * 14


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer = ctypes.c_void_p
    arguments = {"attend": (*[pointer] * 4, _Numbers, ctypes.c_float, pointer, ctypes.c_int)}
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, _NAMES)


def supports(dtype: torch.dtype) -> bool:
    """Whether there is machine code for this data type."""
    return dtype in _NAMES and ("attend", dtype) in _functions()


def address(dtype: torch.dtype) -> int:
    """Where the machine code for a data type lies, for other machine code to call."""
    return native.address(_functions()["attend", dtype])


def forward(
    query_BHD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, visible_BS: Tensor | None, scale: float
) -> Tensor:
    """As `reference.forward`. Of the tensors' strides only the last must be 1; others are copied."""
    B, H, D = query_BHD.shape
    if query_BHD.stride(2) != 1:
        query_BHD = query_BHD.contiguous()
    if key_BKSD.stride(3) != 1:
        key_BKSD = key_BKSD.contiguous()
    if value_BKSD.stride(3) != 1:
        value_BKSD = value_BKSD.contiguous()
    if visible_BS is not None and visible_BS.stride(1) != 1:
        visible_BS = visible_BS.contiguous()
    K, S = key_BKSD.shape[1:3]
    out_BHD = query_BHD.new_empty(B, H, D)
    numbers = _Numbers(
        B, H, K, S, D,
        *query_BHD.stride()[:2], *key_BKSD.stride()[:3], *value_BKSD.stride()[:3],
        0 if visible_BS is None else visible_BS.stride(0),
    )  # fmt: skip
    _functions()["attend", query_BHD.dtype](
        query_BHD.data_ptr(),
        key_BKSD.data_ptr(),
        value_BKSD.data_ptr(),
        None if visible_BS is None else visible_BS.data_ptr(),
        numbers,
        scale,
        out_BHD.data_ptr(),
        torch.get_num_threads() if 2 * B * K * S * D >= _ELEMENTS_FOR_THREADS else 1,
    )
    return out_BHD
