"""A linear map of one byte a weight, which may also serve as an embedding: a model's largest matrix, to run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiway_blocks.kernels.int8_linear import int8_linear, layout


class QuantizedLinear(nn.Module):
    """A linear map to run, whose weights are integers with scales; its rows may serve as an embedding."""

    def _apply(self, fn, recurse: bool = True):
        scales = {
            name: scale for name, scale in self.named_buffers(recurse=False) if scale.is_floating_point()
        }
        super()._apply(fn, recurse)
        for name, scale in scales.items():
            cast = self.get_buffer(name)
            if cast.dtype != scale.dtype:  # scales stay as they are when a model is cast
                self.register_buffer(name, scale.to(cast.device))
        return self

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows of W, (...) int64 -> (..., I): the embedding of tokens."""
        raise NotImplementedError


class Int8Linear(QuantizedLinear):
    """``x W^T`` with W rounded to 127 steps either way of each output's largest weight; asking for a gradient raises.

    The buffers are ``codes`` uint8 (O, I) and ``scale`` float32 (O,).
    """

    codes: Tensor
    scale: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        codes = torch.full((out_features, in_features), layout.OFFSET, dtype=torch.uint8)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", torch.ones(out_features))

    @classmethod
    def of(cls, weight_OI: Tensor, *, at_once: int = 8192) -> Int8Linear:
        """The nearest to a matrix in floating point, converted ``at_once`` outputs at a time to save memory."""
        with torch.device("meta"):
            module = cls(weight_OI.shape[1], weight_OI.shape[0])
        parts = [layout.quantize(part) for part in weight_OI.detach().split(at_once)]
        module.codes = torch.cat([codes for codes, _ in parts])
        module.scale = torch.cat([scale for _, scale in parts])
        return module

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O) in the data type of ``x``."""
        return int8_linear(x, self.codes, self.scale)

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows of W, (...) int64 -> (..., I): the embedding of tokens."""
        return layout.dequantize(self.codes[index], self.scale[index], dtype)
