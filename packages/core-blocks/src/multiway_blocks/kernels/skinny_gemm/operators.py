"""The product as an operator of `torch.library`, so that `torch.compile` and `torch.export` see one node.

Its result is contiguous and shares no memory with its arguments, as the fake promises.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from multiway_blocks.kernels.skinny_gemm import cpu, reference

torch.library.define("multiway::skinny_gemm", "(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
skinny_gemm = torch.ops.multiway.skinny_gemm.default


def _implementation(x: Tensor) -> ModuleType:
    """The module whose `forward` serves this device and data type."""
    if x.is_cpu:
        return cpu if cpu.supports(x.dtype) else reference
    return reference


@torch.library.impl("multiway::skinny_gemm", "CompositeExplicitAutograd")
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    bias = None if bias is None else bias.contiguous()
    return _implementation(x).forward(x.contiguous(), weight.contiguous(), bias)


@torch.library.register_fake("multiway::skinny_gemm")
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    return reference.backward(grad, x, weight, ctx.needs_input_grad)


torch.library.register_autograd("multiway::skinny_gemm", _gradient, setup_context=_save)
