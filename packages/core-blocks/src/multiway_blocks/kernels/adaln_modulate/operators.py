"""Modulated RMSNorm as operators of `torch.library`, so that `torch.compile` and `torch.export` see one node each.

Tensors are two-dimensional. Without a residual the forward operator's second result is empty, because a result must not
share memory with an argument.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from multiway_blocks.kernels.adaln_modulate import cpu, reference
from multiway_blocks.kernels.arguments import contiguous, refuse_gradients

torch.library.define(
    "multiway::adaln_modulate",
    "(Tensor x, Tensor? gate, Tensor? residual, Tensor? weight, Tensor shift, Tensor scale, float eps)"
    " -> (Tensor y, Tensor total, Tensor inverse_rms)",
)
torch.library.define(
    "multiway::adaln_modulate_backward",
    "(Tensor grad_y, Tensor? grad_total, Tensor total, Tensor? x, Tensor? gate, Tensor? weight, Tensor scale,"
    " Tensor inverse_rms) -> (Tensor total, Tensor x, Tensor gate, Tensor shift, Tensor scale, Tensor weight)",
)
adaln_modulate = torch.ops.multiway.adaln_modulate.default
adaln_modulate_backward = torch.ops.multiway.adaln_modulate_backward.default


def _implementation(x: Tensor) -> ModuleType:
    """The module whose `forward` and `backward` serve this device, row length and data type."""
    if x.is_cpu:
        return cpu if cpu.supports(x.dtype) else reference
    if x.is_cuda and importlib.util.find_spec("triton") is not None:
        from multiway_blocks.kernels.adaln_modulate import triton  # not installed on every system

        return triton if triton.supports(x.dtype, x.shape[-1]) else reference
    return reference


@torch.library.impl("multiway::adaln_modulate", "CompositeExplicitAutograd")
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    tensors: Any = [contiguous(tensor) for tensor in arguments[:-1]]
    x, residual = tensors[0], tensors[2]
    y, total, inverse_rms = _implementation(x).forward(*tensors, arguments[-1])
    return y, x.new_empty(0) if residual is None else total, inverse_rms


@torch.library.impl("multiway::adaln_modulate_backward", "CompositeExplicitAutograd")
def _(*arguments: Any) -> tuple[Tensor, ...]:
    tensors = [contiguous(tensor) for tensor in arguments]
    return tuple(_implementation(arguments[2]).backward(*tensors))


@torch.library.register_fake("multiway::adaln_modulate")
def _(x: Tensor, gate: Tensor | None, residual: Tensor | None, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    total = x.new_empty(0 if residual is None else x.shape)
    return x.new_empty(x.shape), total, x.new_empty((x.shape[0], 1), dtype=wide)


@torch.library.register_fake("multiway::adaln_modulate_backward")
def _(
    grad_y: Tensor,
    grad_total: Tensor | None,
    total: Tensor,
    x: Tensor | None,
    gate: Tensor | None,
    weight: Tensor | None,
    scale: Tensor,
    inverse_rms: Tensor,
) -> tuple[Tensor, ...]:
    return (
        total.new_empty(total.shape),
        total.new_empty(0 if x is None else x.shape),
        inverse_rms.new_empty(0 if x is None else scale.shape),
        inverse_rms.new_empty(scale.shape),
        inverse_rms.new_empty(scale.shape),
        inverse_rms.new_empty(0 if weight is None else weight.shape),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, gate, residual, weight, _, scale, _ = inputs
    _, total, inverse_rms = output
    gated = residual is not None
    ctx.save_for_backward(total if gated else x, x if gated else None, gate, weight, scale, inverse_rms)
    ctx.set_materialize_grads(False)


def _gradient(
    ctx: Any, grad_y: Tensor | None, grad_total: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    total, x, gate, weight, scale, inverse_rms = ctx.saved_tensors
    if x is None:
        grad_total = None  # that result was empty
    if grad_y is None and grad_total is None:
        return (None,) * 7
    grad_y = torch.zeros_like(total) if grad_y is None else grad_y.to(total.dtype)
    grads = reference.Gradients(
        *adaln_modulate_backward(grad_y, grad_total, total, x, gate, weight, scale, inverse_rms)
    )
    grad_weight = None if weight is None else grads.weight_D.to(weight.dtype)
    shift, scale = grads.shift_MD.to(scale.dtype), grads.scale_MD.to(scale.dtype)
    if x is None:
        return grads.total_ND, None, None, grad_weight, shift, scale, None
    return grads.x_ND, grads.gate_MD.to(gate.dtype), grads.total_ND, grad_weight, shift, scale, None


torch.library.register_autograd("multiway::adaln_modulate", _gradient, setup_context=_save)
refuse_gradients("adaln_modulate_backward")
