"""Attention of one query as an operator of `torch.library`: one node for `torch.compile` and `torch.export`.

It has no derivatives: a step that trains has more queries than one, and takes the usual attention.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from multiway_blocks.kernels.arguments import refuse_gradients
from multiway_blocks.kernels.decode_attention import cpu, reference

torch.library.define(
    "multiway::decode_attention",
    "(Tensor query, Tensor key, Tensor value, Tensor? visible, float scale) -> Tensor",
)
decode_attention = torch.ops.multiway.decode_attention.default


def _implementation(query: Tensor) -> ModuleType:
    return cpu if query.is_cpu and cpu.supports(query.dtype) else reference


@torch.library.impl("multiway::decode_attention", "CompositeExplicitAutograd")
def _(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    return _implementation(query).forward(query, key, value, visible, scale)


@torch.library.register_fake("multiway::decode_attention")
def _(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    return query.new_empty(query.shape)


refuse_gradients("decode_attention")
