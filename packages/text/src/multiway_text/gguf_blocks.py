"""GGML's block types as codes, scales and offsets of 32 weights each: the form that `BlockLinear` multiplies with.

Formats: `ggml-common.h` and the dequantising functions of llama.cpp; tests compare with the ``gguf`` package. A block
of Q4 and Q5 begins with a scale d, and a minimum m where the type has one; a super-block of Q4_K and Q5_K holds eight
blocks, whose scales and minima are six bits each, times d and dmin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from multiway_text.gguf import GGUFTensor

Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K = 2, 3, 6, 7, 8, 12, 13
_HALF = 16  # bytes of a block of packed codes


def read(tensor: GGUFTensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Codes, scales and offsets of a matrix, as `BlockLinear` takes them.

    None where the type has no blocks of 32 that are held here.
    """
    if len(tensor.shape) != 2 or tensor.kind not in _READERS:
        return None
    size, unpack = _READERS[tensor.kind]
    raw = tensor.data.numpy().reshape(-1, size)
    codes, scale, offset = unpack(raw)
    outputs = tensor.shape[0]
    return _rows(codes, outputs), _rows(scale, outputs), _rows(offset, outputs)


def _rows(values: np.ndarray, outputs: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).view(outputs, -1)


Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def _half(raw: np.ndarray, start: int) -> np.ndarray:
    """A 16-bit float of each block, as float32."""
    return np.ascontiguousarray(raw[:, start : start + 2]).view(np.float16).astype(np.float32)[:, 0]


def _q4_0(raw: np.ndarray) -> Parts:
    scale = _half(raw, 0)
    return raw[:, 2:], scale, -8 * scale


def _q4_1(raw: np.ndarray) -> Parts:
    return raw[:, 4:], _half(raw, 0), _half(raw, 2)


def _q5_0(raw: np.ndarray) -> Parts:
    scale = _half(raw, 0)
    return _fifth_bits(raw[:, 6:], raw[:, 2:6]), scale, -16 * scale


def _q5_1(raw: np.ndarray) -> Parts:
    return _fifth_bits(raw[:, 8:], raw[:, 4:8]), _half(raw, 0), _half(raw, 2)


def _q8_0(raw: np.ndarray) -> Parts:
    scale = _half(raw, 0)
    return raw[:, 2:] ^ 128, scale, -128 * scale  # a signed byte plus 128


def _q4_k(raw: np.ndarray) -> Parts:
    halves = _super_codes(raw[:, 16:])
    return halves[..., :_HALF] | halves[..., _HALF:] << 4, *_super_scales(raw)


def _q5_k(raw: np.ndarray) -> Parts:
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    fifth = raw[:, None, 16:48] >> shifts & 1
    return _super_codes(raw[:, 48:]) | fifth << 4, *_super_scales(raw)


_READERS: Mapping[int, tuple[int, Callable[[np.ndarray], Parts]]] = {
    Q4_0: (18, _q4_0),
    Q4_1: (20, _q4_1),
    Q5_0: (22, _q5_0),
    Q5_1: (24, _q5_1),
    Q8_0: (34, _q8_0),
    Q4_K: (144, _q4_k),
    Q5_K: (176, _q5_k),
}


def _fifth_bits(packed: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Codes of a byte of packed halves (N, 16) and their fifth bits, 32 of a block in four bytes."""
    fifth = np.unpackbits(bits, axis=1, bitorder="little")
    return np.concatenate((packed & 15, packed >> 4), axis=1) | fifth << 4


def _super_codes(packed: np.ndarray) -> np.ndarray:
    """(N, 128): two blocks in the halves of 32 bytes -> codes of a byte (N, 8, 32)."""
    pairs = packed.reshape(-1, 4, 1, 32)
    return np.concatenate((pairs & 15, pairs >> 4), axis=2).reshape(-1, 8, 32)


def _super_scales(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales and offsets (N, 8) of the blocks in a super-block, of twelve bytes that hold six bits of each."""
    low, middle, high = raw[:, 4:8], raw[:, 8:12], raw[:, 12:16]
    scale = np.concatenate((low & 63, high & 15 | low >> 6 << 4), axis=1)
    least = np.concatenate((middle & 63, high >> 4 | middle >> 6 << 4), axis=1)
    return _half(raw, 0)[:, None] * scale, -_half(raw, 2)[:, None] * least
