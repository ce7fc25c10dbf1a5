"""A decoding step of retention on CPUs: `cpu.cpp`, built on first use.

Chunks stay with PyTorch: they are products of matrices, which no kernel of ours would beat.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from multiway_blocks.kernels import native
from multiway_blocks.kernels.gated_retention.reference import wide

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Below this many numbers in all states waking other threads costs more than it saves.
_NUMBERS_FOR_THREADS = 1 << 16


@functools.cache
def _functions() -> dict[tuple[str, str], Callable[..., None]]:
    """The C functions; empty where they cannot be built."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    arguments = {"step": (*[pointer] * 5, *[size] * 3, pointer, pointer, ctypes.c_int)}
    return native.functions(Path(__file__).with_name("cpu.cpp"), arguments, {"f32": "f32"})


def supports(dtype: torch.dtype, state: torch.dtype) -> bool:
    """Whether there is machine code for tokens of this data type, which are widened, and this one of the state."""
    return dtype in _DTYPES and state == torch.float32 and bool(_functions())


def recurrent(
    q_BHK: Tensor, k_BHK: Tensor, v_BHV: Tensor, log_decay_BH: Tensor, state_BHKV: Tensor
) -> tuple[Tensor, Tensor]:
    """As `reference.recurrent`."""
    tensors = [wide(x).contiguous() for x in (q_BHK, k_BHK, v_BHV, log_decay_BH, state_BHKV)]
    *_, K, V = state_BHKV.shape
    next_BHKV = torch.empty_like(tensors[4])
    o_BHV = torch.empty_like(tensors[2])
    _functions()["step", "f32"](
        *(tensor.data_ptr() for tensor in tensors),
        log_decay_BH.numel(),
        K,
        V,
        o_BHV.data_ptr(),
        next_BHKV.data_ptr(),
        torch.get_num_threads() if next_BHKV.numel() >= _NUMBERS_FOR_THREADS else 1,
    )
    return o_BHV, next_BHKV
