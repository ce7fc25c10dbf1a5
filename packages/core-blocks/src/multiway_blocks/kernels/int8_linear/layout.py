"""A byte a weight: codes and the scale of every output.

Shape legend: N rows, O outputs, I inputs. A code is the weight divided by its output's scale, rounded, plus 128:
products of unsigned by signed bytes are what processors have an instruction for. Rows are kept in 16 bits, as two
bytes: their rounding (1 / 32,639 of the largest) is nothing beside that of the weights (1 / 127 of an output's
largest, at most).
"""

from __future__ import annotations

import torch
from torch import Tensor

OFFSET = 128
SMALLEST = 1e-30  # the largest of a row of zeros
_LEVELS = 127
_ROW_LEVELS = 127 * 256 + 127  # the most that two signed bytes hold


def quantize(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """(codes uint8 (O, I), scale float32 (O,)): scale max|w| / 127 of each output, halves rounded to even.

    A weight that is not finite makes its output's scale so too.
    """
    wide = weight_OI.float()
    scale_O = wide.abs().amax(-1).clamp(min=SMALLEST) / _LEVELS
    values = (wide / scale_O[:, None]).round().clamp(-_LEVELS, _LEVELS).nan_to_num(0)
    return (values + OFFSET).to(torch.uint8), scale_O


def dequantize(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Codes (..., I) and scale (...) -> weights (..., I)."""
    return ((codes.to(torch.float32) - OFFSET) * scale[..., None]).to(dtype)


def quantize_rows(x_NI: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(high int8 (N, I), low int8 (N, I), step float32 (N,)): x is about (256 high + low) step."""
    wide = x_NI.float()
    peak_N1 = wide.abs().amax(-1, keepdim=True).clamp(min=SMALLEST)
    factor = peak_N1.new_full((), _ROW_LEVELS) / peak_N1
    values = (wide * factor).round().clamp(-_ROW_LEVELS, _ROW_LEVELS).nan_to_num(0).to(torch.int16)
    low = values.to(torch.int8)  # keeps the last eight bits
    return ((values.to(torch.int32) - low) >> 8).to(torch.int8), low, peak_N1[:, 0] / _ROW_LEVELS
