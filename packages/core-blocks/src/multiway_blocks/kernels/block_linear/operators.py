"""The product as an operator of `torch.library`, so that `torch.compile` and `torch.export` see one node."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from multiway_blocks.kernels.block_linear import cpu, layout, reference

torch.library.define(
    "multiway::block_linear",
    "(Tensor x, Tensor codes, Tensor scale, Tensor offset, SymInt outputs) -> Tensor",
)
block_linear = torch.ops.multiway.block_linear.default


@torch.library.impl("multiway::block_linear", "CompositeExplicitAutograd")
def _(x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor, outputs: int) -> Tensor:
    if x.device.type == "cpu" and cpu.supports(x.dtype):
        return cpu.forward(
            x.contiguous(), codes.contiguous(), scale.contiguous(), offset.contiguous(), outputs
        )
    if x.device.type == "cpu":
        return reference.forward(x, codes, scale, offset, outputs)
    weight = layout.dequantize(codes, scale, offset, outputs, x.dtype)
    return x @ weight.t()  # a GPU has no need of rounded rows


@torch.library.register_fake("multiway::block_linear")
def _(x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor, outputs: int) -> Tensor:
    return x.new_empty(x.shape[0], outputs)


def _no_gradient(ctx: Any, grad: Tensor) -> NoReturn:
    raise NotImplementedError("block_linear has no derivatives; train with the matrix in floating point")


torch.library.register_autograd("multiway::block_linear", _no_gradient)
