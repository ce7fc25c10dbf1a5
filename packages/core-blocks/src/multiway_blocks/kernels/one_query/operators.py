"""Attention of one query as an operator of `torch.library`: one node for `torch.compile` and `torch.export`.

It has no derivatives: a step that trains has more queries than one, and takes the usual attention.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

from multiway_blocks.kernels.one_query import cpu, reference

torch.library.define(
    "multiway::one_query", "(Tensor query, Tensor key, Tensor value, Tensor? visible, float scale) -> Tensor"
)
one_query = torch.ops.multiway.one_query.default


def _implementation(query: Tensor) -> ModuleType:
    return cpu if query.is_cpu and cpu.supports(query.dtype) else reference


@torch.library.impl("multiway::one_query", "CompositeExplicitAutograd")
def _(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    return _implementation(query).forward(query, key, value, visible, scale)


@torch.library.register_fake("multiway::one_query")
def _(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    return query.new_empty(query.shape)


def _gradient(ctx: Any, grad: Tensor) -> NoReturn:
    raise NotImplementedError(
        "one_query has no derivatives; its definition has, and runs with MULTIWAY_KERNELS=reference"
    )


torch.library.register_autograd("multiway::one_query", _gradient)
