"""The operation as an operator of `torch.library`, so that `torch.compile` and `torch.export` see one node."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import torch
from torch import Tensor

from multiway_blocks.kernels.arguments import refuse_gradients
from multiway_blocks.kernels.rms_norm_quantize import cpu, reference

torch.library.define(
    "multiway::rms_norm_quantize", "(Tensor x, Tensor? weight, float eps) -> (Tensor, Tensor)"
)
rms_norm_quantize = torch.ops.multiway.rms_norm_quantize.default


def _implementation(x: Tensor) -> ModuleType:
    """The module whose `forward` serves this device, data type and row length."""
    if x.is_cpu:
        return cpu if cpu.supports(x.dtype) else reference
    if x.is_cuda and importlib.util.find_spec("triton") is not None:
        from multiway_blocks.kernels.rms_norm_quantize import triton  # not installed on every system

        return triton if triton.supports(x.dtype, x.shape[-1]) else reference
    return reference


@torch.library.impl("multiway::rms_norm_quantize", "CompositeExplicitAutograd")
def _(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    return _implementation(x).forward(x.contiguous(), weight, eps)


@torch.library.register_fake("multiway::rms_norm_quantize")
def _(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(x.shape, dtype=torch.int8), x.new_empty(x.shape[0], dtype=wide)


refuse_gradients("rms_norm_quantize", "train with RMSNorm and multiway_blocks.bitlinear.BitLinear")
