"""The product as an operator of `torch.library`, so that `torch.compile` and `torch.export` see one node."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from multiway_blocks.kernels.block_linear import cpu, layout, reference

torch.library.define(
    "multiway::block_linear", "(Tensor x, Tensor codes, Tensor scale, Tensor offset) -> Tensor"
)
block_linear = torch.ops.multiway.block_linear.default


@torch.library.impl("multiway::block_linear", "CompositeExplicitAutograd")
def _(x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    if x.device.type == "cpu" and cpu.supports(x.dtype):
        return cpu.forward(*(tensor.contiguous() for tensor in (x, codes, scale, offset)))
    if x.device.type == "cpu":
        return reference.forward(x, codes, scale, offset)
    return x @ layout.dequantize(codes, scale, offset, x.dtype).t()  # a GPU has no need of rounded rows


@torch.library.register_fake("multiway::block_linear")
def _(x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], codes.shape[0])


def _no_gradient(ctx: Any, grad: Tensor) -> NoReturn:
    raise NotImplementedError("block_linear has no derivatives; train with the matrix in floating point")


torch.library.register_autograd("multiway::block_linear", _no_gradient)
