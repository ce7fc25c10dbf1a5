"""The encoder on CPUs: `cpu.cpp`, built on first use for the processor that it runs on."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from multiway_blocks.kernels import native
from multiway_blocks.kernels.int8_encoder.layout import ACTIVATIONS


@functools.cache
def _functions() -> Callable[..., None] | None:
    """The C function; None where it cannot be built."""
    library = native.load(Path(__file__).with_name("cpu.cpp"))
    if library is None:
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    function = library.encode
    function.argtypes = (pointer, pointer, ctypes.c_float, pointer, pointer, size, pointer, ctypes.c_int)
    function.restype = None
    return function


def supports(weights: Sequence[Tensor]) -> bool:
    """Whether there is machine code, which sums up as many products as fit into 32 bits."""
    return _functions() is not None and all(
        codes.shape[1] * 4 <= 66_000 for codes in weights if codes.ndim == 4
    )


def forward(
    tokens_N: Tensor, starts: Tensor, weights: Sequence[Tensor], num_heads: int, eps: float, activation: str
) -> Tensor:
    """As `reference.forward`, for contiguous tensors."""
    width = weights[0].shape[1]
    hidden_NE = torch.empty(len(tokens_N), width)
    pointers = (ctypes.c_void_p * len(weights))(*(tensor.data_ptr() for tensor in weights))
    inner = weights[11].shape[1] * 4
    sizes = (ctypes.c_int64 * 5)(
        (len(weights) - 4) // 10, width, num_heads, inner, ACTIVATIONS.index(activation)
    )
    function = _functions()
    assert function is not None
    texts = len(starts) - 1
    function(
        pointers, sizes, eps, tokens_N.data_ptr(), starts.data_ptr(), texts, hidden_NE.data_ptr(),
        torch.get_num_threads() if texts > 1 else 1,
    )  # fmt: skip
    return hidden_NE
