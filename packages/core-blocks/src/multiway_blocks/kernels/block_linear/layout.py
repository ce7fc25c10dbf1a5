"""Weights in blocks of 32 along the inputs, each with a scale and an offset of its own, as GGML's types have them.

Shape legend: O outputs, I inputs, G = I / 32 blocks of an output, N rows. A weight is ``scale code + offset``. A code
is a byte, or half of one: byte j of a block's 16 holds code j in its low half and code j + 16 in its high half.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32
_ROW_LEVELS = 127 * 256 + 127


def is_packed(codes: Tensor, scale: Tensor) -> bool:
    """Whether a byte holds two codes."""
    return 2 * codes.shape[-1] == BLOCK * scale.shape[-1]


def unpack(codes: Tensor) -> Tensor:
    """Codes of half a byte (..., I / 2) -> of a byte (..., I)."""
    halves = codes.unflatten(-1, (-1, BLOCK // 2))
    return torch.cat((halves & 15, halves >> 4), dim=-1).flatten(-2)


def dequantize(codes: Tensor, scale: Tensor, offset: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights (..., I): codes uint8 (..., I) or packed (..., I / 2), scale and offset float32 (..., G)."""
    whole = unpack(codes) if is_packed(codes, scale) else codes
    values = whole.unflatten(-1, (-1, BLOCK)).float() * scale[..., None] + offset[..., None]
    return values.flatten(-2).to(dtype)


def quantize_rows(x_NI: Tensor) -> tuple[Tensor, Tensor]:
    """(whole numbers in float32 (N, I), step float32 (N, G)): x is about the number times its block's step.

    The numbers take 16 bits: the step is max|x| / 32,639 of a block, the most that two signed bytes hold.
    """
    blocks_NGB = x_NI.float().unflatten(-1, (-1, BLOCK))
    peak_NG1 = blocks_NGB.abs().amax(-1, keepdim=True)
    factor = torch.where(peak_NG1 > 0, _ROW_LEVELS / peak_NG1, 0)
    values = (blocks_NGB * factor).round().clamp(-_ROW_LEVELS, _ROW_LEVELS).nan_to_num(0)
    return values.flatten(-2), peak_NG1[..., 0] / _ROW_LEVELS
