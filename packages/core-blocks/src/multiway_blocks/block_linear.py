"""A linear map whose weights stay in the blocks of a GGUF file, and which may also serve as an embedding: to run."""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_blocks.int8 import QuantizedLinear
from multiway_blocks.kernels.block_linear import block_linear, layout


class BlockLinear(QuantizedLinear):
    """``x W^T`` with W = scale code + offset in blocks of 32 weights; asking for a gradient raises.

    ``codes`` uint8 (O, I), or (O, I / 2) with two in a byte, ``scale`` and ``offset`` float32 (O, I / 32), in GGML's
    order. The buffers hold them in panels of 16 outputs (`layout.pack`).
    """

    codes: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, codes: Tensor, scale: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.in_features, self.out_features = layout.BLOCK * scale.shape[1], len(codes)
        for name, value in zip(("codes", "scale", "offset"), layout.pack(codes, scale, offset), strict=True):
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O) in the data type of ``x``."""
        return block_linear(x, self.codes, self.scale, self.offset, self.out_features)

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows of W, (...) int64 -> (..., I): the embedding of tokens."""
        return layout.rows(self.codes, self.scale, self.offset, index, dtype)
