"""Weights in blocks of 32 along the inputs, each with a scale and an offset of its own, as GGML's types have them.

Shape legend: O outputs, I inputs, G = I / 32 blocks of an output, N rows, P = O / 16 panels of outputs, rounded up. A
weight is ``scale code + offset``. Sixteen outputs make a panel, whose blocks lie side by side, so that one instruction
multiplies four codes of each of them with the same four inputs:

* codes uint8 (P, G, 8, 16, 4): code [p, g, j, k, b] is of output 16 p + k and input 32 g + 4 j + b;
* packed, uint8 (P, G, 4, 16, 4): the low half of byte [p, g, j, k, b] is that code, the high half that of the input 16
  further on;
* scale and offset, float16 or float32, (P, G, 16).

Outputs that fill up the last panel have zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32
PANEL = 16
_LEVELS = 127
_SMALLEST = 1e-30  # a block without a larger number counts as zeros


def is_packed(codes: Tensor) -> bool:
    """Whether a byte holds two codes."""
    return codes.shape[2] == 4


def pack(codes: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three tensors in panels.

    ``codes``: uint8 (O, I), or (O, I / 2) as GGML has them: byte j of a block's 16 holds code j in its low half and
    code j + 16 in its high half. Scales and offsets become float16 where that changes none of them, else float32.
    """
    blocks = scale_OG.shape[1]
    panels = _panels(codes.unflatten(1, (blocks, -1, 4)))  # P, 16, G, J, 4
    halves = [value.half() for value in (scale_OG, offset_OG)]
    exact = all(
        bool((half.float() == value).all()) for half, value in zip(halves, (scale_OG, offset_OG), strict=True)
    )
    scale, offset = halves if exact else (scale_OG.float(), offset_OG.float())
    return (
        panels.permute(0, 2, 3, 1, 4).contiguous(),
        _panels(scale).transpose(1, 2).contiguous(),
        _panels(offset).transpose(1, 2).contiguous(),
    )


def _panels(value: Tensor) -> Tensor:
    """(O, ...) -> (P, 16, ...), filled up with zeros."""
    missing = -len(value) % PANEL
    if missing:
        value = torch.cat((value, value.new_zeros(missing, *value.shape[1:])))
    return value.unflatten(0, (len(value) // PANEL, PANEL))


def rows(codes: Tensor, scale: Tensor, offset: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights of the outputs ``index`` (...) int64: (..., I)."""
    panel, place = index // PANEL, index % PANEL
    own = codes[panel, :, :, place]  # ..., G, J, 4
    whole = torch.cat((own & 15, own >> 4), dim=-2) if is_packed(codes) else own
    own_scale, own_offset = (value[panel, :, place].float()[..., None] for value in (scale, offset))
    return (whole.flatten(-2).float() * own_scale + own_offset).flatten(-2).to(dtype)


def dequantize(codes: Tensor, scale: Tensor, offset: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
    """All weights (O, I)."""
    return rows(codes, scale, offset, torch.arange(outputs, device=codes.device), dtype)


def quantize_rows(x_NI: Tensor) -> tuple[Tensor, Tensor]:
    """(whole numbers in float32 (N, I), step float32 (N, G)): x is about the number times its block's step.

    The numbers take 8 bits: the step is max|x| / 127 of a block. A block with a number that is not finite has a step
    that is none.
    """
    blocks_NGB = x_NI.float().unflatten(-1, (-1, BLOCK))
    peak_NG1 = blocks_NGB.abs().amax(-1, keepdim=True)
    finite_NG1 = peak_NG1.isfinite()
    factor = torch.where((peak_NG1 >= _SMALLEST) & finite_NG1, _LEVELS / peak_NG1, 0)
    values = (blocks_NGB.nan_to_num(0, 0, 0) * factor).round()
    step = torch.where(finite_NG1, peak_NG1 / _LEVELS, torch.nan)
    return values.flatten(-2), step[..., 0]
