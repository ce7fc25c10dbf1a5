"""The encoder as an operator of `torch.library`, so that `torch.compile` and `torch.export` see one node."""

from __future__ import annotations

import torch
from torch import Tensor

from multiway_blocks.kernels.arguments import refuse_gradients
from multiway_blocks.kernels.int8_encoder import cpu, reference

torch.library.define(
    "multiway::int8_encoder",
    "(Tensor tokens, Tensor starts, Tensor[] weights, int num_heads, float eps, str activation) -> Tensor",
)
int8_encoder = torch.ops.multiway.int8_encoder.default


@torch.library.impl("multiway::int8_encoder", "CompositeExplicitAutograd")
def _(
    tokens: Tensor, starts: Tensor, weights: list[Tensor], num_heads: int, eps: float, activation: str
) -> Tensor:
    implementation = cpu if tokens.is_cpu and cpu.supports(weights) else reference
    return implementation.forward(
        tokens.contiguous(), starts.contiguous(), weights, num_heads, eps, activation
    )


@torch.library.register_fake("multiway::int8_encoder")
def _(
    tokens: Tensor, starts: Tensor, weights: list[Tensor], num_heads: int, eps: float, activation: str
) -> Tensor:
    return weights[2].new_empty(tokens.shape[0], weights[2].shape[1])


refuse_gradients("int8_encoder", "train with the model in floating point")
