"""The functions of `native.cpp`, built with the user's compiler on first use (`multiway_blocks.kernels.native`).

Where there is no compiler, layers run as scatter-compute-gather in PyTorch and the event engine in numpy.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from multiway_blocks.kernels import native

_NAMES = {torch.float32: "f32", torch.float64: "f64"}
LANES, STRIP = 16, 64
"""As in native.cpp."""


@functools.cache
def functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    """The C functions by name and data type; empty where they cannot be built."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    arguments = {
        "run": (*[pointer] * 4, size, pointer),
        "mix": (*[size] * 5, *[pointer] * 8),
        "mix_back": (*[size] * 5, *[pointer] * 10),
    }
    return native.functions(Path(__file__).with_name("native.cpp"), arguments, _NAMES)


def available() -> bool:
    """Whether there is machine code here."""
    return bool(functions())


def padded(count: int) -> int:
    """Numbers that whole vectors of `count` numbers take."""
    return -(-count // LANES) * LANES
