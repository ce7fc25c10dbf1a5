"""The product as an operator of `torch.library`, so that `torch.compile` and `torch.export` see one node."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

from multiway_blocks.kernels.int8_linear import cpu, layout, reference

torch.library.define("multiway::int8_linear", "(Tensor x, Tensor codes, Tensor scale) -> Tensor")
int8_linear = torch.ops.multiway.int8_linear.default


def _implementation(device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The module whose `forward` serves this device and data type."""
    if device.type == "cpu":
        return cpu if cpu.supports(dtype) else reference
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from multiway_blocks.kernels.int8_linear import triton  # not installed on every system

        return triton if triton.supports(dtype) else reference
    return reference


@torch.library.impl("multiway::int8_linear", "CompositeExplicitAutograd")
def _(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    parts = (part.contiguous() for part in layout.quantize_rows(x))
    return _implementation(x.device, x.dtype).forward(*parts, codes.contiguous(), scale.contiguous(), x.dtype)


@torch.library.register_fake("multiway::int8_linear")
def _(x: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], codes.shape[0])


def _no_gradient(ctx: Any, grad: Tensor) -> NoReturn:
    raise NotImplementedError("int8_linear has no derivatives; train with the matrix in floating point")


torch.library.register_autograd("multiway::int8_linear", _no_gradient)
