"""How published checkpoints store ternary weights: two layouts of two bits, two conventions of scales.

* ``transformers`` (``microsoft/bitnet-b1.58-2B-4T`` and others): uint8 (O / 4, I); bits 2q and 2q + 1 of row r are
  output q O / 4 + r, plus one. Its ``weight_scale`` is mean|W| for the class ``autobitlinear`` (results are multiplied
  by it) and 1 / mean|W| for the older ``bitlinear`` (results are divided by it).
* GGUF type I2_S of bitnet.cpp: blocks of 128 weights of the flattened matrix in 32 bytes; byte j holds weights j,
  j + 32, j + 64, j + 96 from its highest bits to its lowest, plus one. Behind the last block stand the scale mean|W| in
  float32 and 28 bytes of padding.

Shape legend: O outputs, I inputs.
"""

from __future__ import annotations

import torch
from multiway_core.errors import CheckpointError
from torch import Tensor

I2_S_BLOCK = 128
I2_S_TAIL = 32  # bytes behind the blocks

_SHIFTS = (0, 2, 4, 6)


def pack_rows(ternary_OI: Tensor) -> Tensor:
    """Int8 -1, 0, 1 (O, I) -> uint8 (O / 4, I) as `transformers` packs it. Raises ValueError unless 4 divides O."""
    if ternary_OI.shape[0] % 4:
        raise ValueError(f"this layout packs four rows in one: {ternary_OI.shape[0]} rows are no multiple")
    packed = torch.zeros(ternary_OI.shape[0] // 4, *ternary_OI.shape[1:], dtype=torch.uint8)
    for shift, rows in zip(_SHIFTS, (ternary_OI + 1).to(torch.uint8).chunk(4), strict=True):
        packed |= rows << shift
    return packed


def unpack_rows(packed: Tensor, *, name: str = "weight") -> Tensor:
    """Uint8 (O / 4, I) -> int8 -1, 0, 1 (O, I). Raises CheckpointError, with ``name``, for a code that is no weight."""
    codes = torch.cat([(packed >> shift) & 3 for shift in _SHIFTS])
    return _weights(codes, name)


def pack_i2_s(ternary_OI: Tensor, scale: float) -> Tensor:
    """Int8 -1, 0, 1 (O, I) and mean|W| -> the bytes of a GGUF tensor of type I2_S, uint8 (O I / 4 + 32,).

    Raises ValueError unless 128 divides I, which bitnet.cpp needs.
    """
    if ternary_OI.shape[1] % I2_S_BLOCK:
        raise ValueError(f"I2_S needs a multiple of {I2_S_BLOCK} inputs, not {ternary_OI.shape[1]}")
    codes = (ternary_OI + 1).to(torch.uint8).reshape(-1, 4, I2_S_BLOCK // 4)
    packed = torch.zeros(len(codes), I2_S_BLOCK // 4, dtype=torch.uint8)
    for part, shift in enumerate(reversed(_SHIFTS)):
        packed |= codes[:, part] << shift
    tail = torch.zeros(I2_S_TAIL, dtype=torch.uint8)
    tail[:4] = torch.tensor([scale], dtype=torch.float32).view(torch.uint8)
    return torch.cat([packed.flatten(), tail])


def unpack_i2_s(data: Tensor, outputs: int, inputs: int, *, name: str = "weight") -> tuple[Tensor, Tensor]:
    """The bytes of an I2_S tensor -> int8 -1, 0, 1 (O, I) and its scale, float32 ().

    Raises CheckpointError, with ``name``, for a wrong number of bytes, a code that is no weight or an unusable scale.
    """
    if inputs % I2_S_BLOCK or data.numel() != outputs * inputs // 4 + I2_S_TAIL:
        raise CheckpointError(f"{name}: {data.numel()} bytes are no I2_S tensor of {outputs} x {inputs}")
    packed = data[:-I2_S_TAIL].view(-1, 1, I2_S_BLOCK // 4)
    shifts = torch.tensor(_SHIFTS[::-1], dtype=torch.uint8)[:, None]
    scale = data[-I2_S_TAIL:][:4].clone().view(torch.float32)[0]
    if not (torch.isfinite(scale) and scale > 0):
        raise CheckpointError(f"{name}: its scale is {float(scale)}, expected a number above 0")
    return _weights((packed >> shifts) & 3, name).view(outputs, inputs), scale


def scale_of(weight_scale: Tensor, *, divides: bool, name: str = "weight_scale") -> Tensor:
    """mean|W| from a stored ``weight_scale``, float32 (); ``divides``: the older convention.

    Raises CheckpointError, with ``name``, unless it is one number above 0.
    """
    value = weight_scale.float().flatten()
    if value.numel() != 1 or not (torch.isfinite(value) & (value > 0)).all():
        raise CheckpointError(f"{name}: expected one number above 0, found {value.tolist()[:4]}")
    return 1 / value[0] if divides else value[0]


def _weights(codes: Tensor, name: str) -> Tensor:
    if (codes == 3).any():
        raise CheckpointError(
            f"{name}: holds codes that stand for no ternary weight: damaged, or packed otherwise"
        )
    return codes.to(torch.int8) - 1
