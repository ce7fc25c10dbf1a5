"""The product as an operator of `torch.library`, so that `torch.compile` and `torch.export` see one node."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import torch
from torch import Tensor

from multiway_blocks.kernels.arguments import refuse_gradients
from multiway_blocks.kernels.ternary_linear import cpu, reference

torch.library.define(
    "multiway::ternary_linear",
    "(Tensor x, Tensor step, Tensor packed, Tensor scale, ScalarType dtype) -> Tensor",
)
ternary_linear = torch.ops.multiway.ternary_linear.default


def _implementation(device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The module whose `forward` serves this device and data type."""
    if device.type == "cpu":
        return cpu if cpu.supports(dtype) else reference
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from multiway_blocks.kernels.ternary_linear import triton  # not installed on every system

        return triton if triton.supports(dtype) else reference
    return reference


def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there is more than the definition."""
    return _implementation(device, dtype) is not reference


@torch.library.impl("multiway::ternary_linear", "CompositeExplicitAutograd")
def _(x: Tensor, step: Tensor, packed: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    tensors = (tensor.contiguous() for tensor in (x, step, packed, scale))
    return _implementation(x.device, dtype).forward(*tensors, dtype)


@torch.library.register_fake("multiway::ternary_linear")
def _(x: Tensor, step: Tensor, packed: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return step.new_empty(x.shape[0], packed.shape[0], dtype=dtype)


refuse_gradients("ternary_linear", "train with multiway_blocks.bitlinear.BitLinear")
