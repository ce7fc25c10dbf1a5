"""RMSNorm as operators of `torch.library`, so that `torch.compile` and `torch.export` see one node each.

An operator's results never share memory with its arguments and are contiguous, as the fakes promise. The
backward pass needs what was normalised and one number a row, nothing else.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from multiway_blocks.kernels.arguments import refuse_gradients
from multiway_blocks.kernels.rms_norm import cpu, reference

# Defined by schema, because `torch.library.custom_op` wraps every call in checks that cost some microseconds.
torch.library.define(
    "multiway::rms_norm", "(Tensor x, Tensor? weight, float eps) -> (Tensor y, Tensor inverse_rms)"
)
torch.library.define(
    "multiway::add_rms_norm",
    "(Tensor x, Tensor residual, Tensor? weight, float eps) -> (Tensor y, Tensor total, Tensor inverse_rms)",
)
torch.library.define(
    "multiway::rms_norm_backward",
    "(Tensor grad_y, Tensor x, Tensor? weight, Tensor inverse_rms, Tensor? grad_x)"
    " -> (Tensor grad_x, Tensor grad_weight)",
)
rms_norm = torch.ops.multiway.rms_norm.default
add_rms_norm = torch.ops.multiway.add_rms_norm.default
rms_norm_backward = torch.ops.multiway.rms_norm_backward.default


def _implementation(x: Tensor, other: torch.dtype) -> ModuleType:
    """The module whose `forward` and `backward` serve this device, row length and pair of data types."""
    if x.is_cpu:
        return cpu if cpu.supports(x.dtype, other) else reference
    if x.is_cuda:
        from multiway_blocks.kernels.rms_norm import triton  # not installed on every system

        return triton if triton.supports(x.dtype, other, x.shape[-1]) else reference
    return reference


@torch.library.impl("multiway::rms_norm", "CompositeExplicitAutograd")
def _(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    y, _, inverse_rms = _implementation(x, x.dtype).forward(x.contiguous(), None, weight, eps)
    return y, inverse_rms


@torch.library.impl("multiway::add_rms_norm", "CompositeExplicitAutograd")
def _(x: Tensor, residual: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return _implementation(x, residual.dtype).forward(x.contiguous(), residual.contiguous(), weight, eps)


@torch.library.impl("multiway::rms_norm_backward", "CompositeExplicitAutograd")
def _(
    grad_y: Tensor, x: Tensor, weight: Tensor | None, inverse_rms: Tensor, grad_x: Tensor | None
) -> tuple[Tensor, Tensor]:
    if grad_x is not None:
        grad_x = grad_x.to(x.dtype).contiguous()
    return _implementation(x, grad_y.dtype).backward(
        grad_y.contiguous(), x.contiguous(), weight, inverse_rms.contiguous(), grad_x
    )


# Fakes: shapes and data types only.


@torch.library.register_fake("multiway::rms_norm")
def _(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _new_inverse_rms(x, x.dtype)


@torch.library.register_fake("multiway::add_rms_norm")
def _(x: Tensor, residual: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(x.dtype, residual.dtype)
    return x.new_empty(x.shape), x.new_empty(x.shape, dtype=dtype), _new_inverse_rms(x, dtype)


@torch.library.register_fake("multiway::rms_norm_backward")
def _(
    grad_y: Tensor, x: Tensor, weight: Tensor | None, inverse_rms: Tensor, grad_x: Tensor | None
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), inverse_rms.new_empty(0 if weight is None else x.shape[-1])


def _new_inverse_rms(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty((*x.shape[:-1], 1), dtype=torch.promote_types(dtype, torch.float32))


# Gradients. One that nobody asked for arrives as None.


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight, output[1])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, grad_y: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
    if grad_y is None:
        return None, None, None
    x, weight, inverse_rms = ctx.saved_tensors
    grad_x, grad_weight = rms_norm_backward(grad_y, x, weight, inverse_rms, None)
    return grad_x, None if weight is None else grad_weight.to(weight.dtype), None


def _add_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, residual, weight, _ = inputs
    ctx.save_for_backward(output[1], weight, output[2])
    ctx.dtypes = x.dtype, residual.dtype
    ctx.set_materialize_grads(False)


def _add_gradient(
    ctx: Any, grad_y: Tensor | None, grad_total: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
    total, weight, inverse_rms = ctx.saved_tensors
    grad, grad_weight = grad_total, None
    if grad_y is not None:
        grad, grad_weight = rms_norm_backward(grad_y, total, weight, inverse_rms, grad_total)
        grad_weight = None if weight is None else grad_weight.to(weight.dtype)
    if grad is None:
        return None, None, None, None
    x_dtype, residual_dtype = ctx.dtypes
    return grad.to(x_dtype), grad.to(residual_dtype), grad_weight, None


torch.library.register_autograd("multiway::rms_norm", _gradient, setup_context=_save)
torch.library.register_autograd("multiway::add_rms_norm", _add_gradient, setup_context=_add_save)
refuse_gradients("rms_norm_backward")
