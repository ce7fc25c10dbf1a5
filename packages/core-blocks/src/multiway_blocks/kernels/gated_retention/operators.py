"""Retention as operators of `torch.library`, so that `torch.compile` and `torch.export` see one node each."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from multiway_blocks.kernels.arguments import refuse_gradients
from multiway_blocks.kernels.gated_retention import cpu, reference

torch.library.define(
    "multiway::gated_retention",
    "(Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor state, int chunk) -> (Tensor o, Tensor state)",
)
torch.library.define(
    "multiway::gated_retention_backward",
    "(Tensor grad_o, Tensor grad_state, Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor state, int chunk)"
    " -> (Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor state)",
)
gated_retention = torch.ops.multiway.gated_retention.default
gated_retention_backward = torch.ops.multiway.gated_retention_backward.default


def _triton(q: Tensor, state: Tensor) -> ModuleType | None:
    if q.is_cuda and importlib.util.find_spec("triton") is not None:
        from multiway_blocks.kernels.gated_retention import triton  # not installed on every system

        return triton if triton.supports(q.dtype, state.dtype) else None
    return None


@torch.library.impl("multiway::gated_retention", "CompositeExplicitAutograd")
def _(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    kernels = _triton(q, state)
    if q.shape[2] == 1:
        step: ModuleType = kernels or reference
        if q.is_cpu and cpu.supports(q.dtype, state.dtype):
            step = cpu
        tensors = (x.contiguous() for x in (q[:, :, 0], k[:, :, 0], v[:, :, 0], log_decay[:, :, 0], state))
        o, state = step.recurrent(*tensors)
        return o[:, :, None], state
    if q.shape[2] == 0:
        return reference.wide(v).clone(), state.clone()
    if kernels is not None:
        return kernels.chunkwise(*(x.contiguous() for x in (q, k, v, log_decay, state)))
    return reference.chunkwise(q, k, v, log_decay, state, chunk=chunk)


@torch.library.impl("multiway::gated_retention_backward", "CompositeExplicitAutograd")
def _(*arguments: Any) -> tuple[Tensor, ...]:
    grads, tensors = reference.backward(*arguments), arguments[2:-1]
    return tuple(grad.to(x.dtype) for grad, x in zip(grads, tensors, strict=True))


@torch.library.register_fake("multiway::gated_retention")
def _(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape, dtype=torch.promote_types(v.dtype, torch.float32)), state.new_empty(
        state.shape
    )


@torch.library.register_fake("multiway::gated_retention_backward")
def _(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in arguments[2:-1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.chunk = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad_o: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
    return (*gated_retention_backward(grad_o, grad_state, *ctx.saved_tensors, ctx.chunk), None)


torch.library.register_autograd("multiway::gated_retention", _gradient, setup_context=_save)
refuse_gradients("gated_retention_backward")
