"""Two bits a weight: the packed matrix that the kernels read.

Shape legend: O outputs, I inputs, P bytes of a packed row. A row is cut into blocks of 256 weights in 64 bytes; bits 2q
and 2q + 1 of byte j of a block are weight 64 q + j, plus one. So each of the four bit planes of 64 bytes multiplies 64
neighbouring inputs, without shuffling. The last block of a row is filled up with weights of zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCK = 256
_PLANES = 4


def packed_size(inputs: int) -> int:
    """Bytes of a packed row of ``inputs`` weights."""
    return -(-inputs // BLOCK) * BLOCK // _PLANES


def pack(ternary_OI: Tensor) -> Tensor:
    """Int8 weights -1, 0, 1 (O, I) -> uint8 (O, P)."""
    outputs, inputs = ternary_OI.shape
    codes = (ternary_OI + 1).to(torch.uint8)
    codes = nn.functional.pad(codes, (0, _PLANES * packed_size(inputs) - inputs), value=1)
    planes = codes.view(outputs, codes.shape[1] // BLOCK, _PLANES, BLOCK // _PLANES)
    packed = planes[:, :, 0].clone()
    for plane in range(1, _PLANES):
        packed |= planes[:, :, plane] << 2 * plane
    return packed.flatten(1)


def unpack(packed_OP: Tensor, inputs: int) -> Tensor:
    """Uint8 (O, P) -> int8 weights -1, 0, 1 (O, I)."""
    outputs, size = packed_OP.shape
    blocks = packed_OP.reshape(outputs, size * _PLANES // BLOCK, 1, BLOCK // _PLANES)
    shifts = torch.arange(_PLANES, dtype=torch.uint8, device=packed_OP.device)[:, None] * 2
    codes = (blocks >> shifts) & 3
    return codes.flatten(1)[:, :inputs].to(torch.int8) - 1
