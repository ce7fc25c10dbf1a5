"""Experts' feed-forward networks as operators of `torch.library`, one node each for `torch.compile`."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from multiway_blocks.kernels.arguments import contiguous, refuse_gradients
from multiway_blocks.kernels.moe_feedforward import reference
from multiway_blocks.kernels.moe_feedforward.reference import Experts

_ARGUMENTS = (
    "Tensor x, Tensor counts, Tensor up, Tensor? up_bias, Tensor down, Tensor? down_bias,"
    " str activation, bool gated"
)
torch.library.define("multiway::moe_feedforward", f"({_ARGUMENTS}) -> Tensor")
torch.library.define(
    "multiway::moe_feedforward_backward",
    f"(Tensor grad, {_ARGUMENTS}) -> (Tensor x, Tensor up, Tensor up_bias, Tensor down, Tensor down_bias)",
)
moe_feedforward = torch.ops.multiway.moe_feedforward.default
moe_feedforward_backward = torch.ops.multiway.moe_feedforward_backward.default


def has_kernel(x: Tensor) -> bool:
    """Whether there is more than the definition for these rows."""
    if x.is_cuda and importlib.util.find_spec("triton") is not None:
        from multiway_blocks.kernels.moe_feedforward import triton  # not installed on every system

        return triton.supports(x.dtype, x.shape[1])
    return False


@torch.library.impl("multiway::moe_feedforward", "CompositeExplicitAutograd")
def _(x: Tensor, counts: Tensor, *parts: Any) -> Tensor:
    matrices: Any = [contiguous(tensor) for tensor in parts[:4]]
    experts = Experts(*matrices, *parts[4:])
    if has_kernel(x):
        from multiway_blocks.kernels.moe_feedforward import triton

        return triton.forward(x.contiguous(), counts, experts)
    return reference.forward(x, counts, experts)


@torch.library.impl("multiway::moe_feedforward_backward", "CompositeExplicitAutograd")
def _(grad: Tensor, x: Tensor, counts: Tensor, *experts: Any) -> tuple[Tensor, ...]:
    return reference.backward(grad, x, counts, Experts(*experts))


@torch.library.register_fake("multiway::moe_feedforward")
def _(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.register_fake("multiway::moe_feedforward_backward")
def _(
    grad: Tensor,
    x: Tensor,
    counts: Tensor,
    up: Tensor,
    up_bias: Tensor | None,
    down: Tensor,
    down_bias: Tensor | None,
    *_: Any,
) -> tuple[Tensor, ...]:
    return (
        x.new_empty(x.shape),
        up.new_empty(up.shape),
        x.new_empty(0 if up_bias is None else up_bias.shape),
        down.new_empty(down.shape),
        x.new_empty(0 if down_bias is None else down_bias.shape),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.activation, ctx.gated = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, counts, up, up_bias, down, down_bias = ctx.saved_tensors
    grads = moe_feedforward_backward(grad, x, counts, up, up_bias, down, down_bias, ctx.activation, ctx.gated)
    for_x, for_up, for_up_bias, for_down, for_down_bias = grads
    for_up_bias = None if up_bias is None else for_up_bias
    for_down_bias = None if down_bias is None else for_down_bias
    return for_x, None, for_up, for_up_bias, for_down, for_down_bias, None, None


torch.library.register_autograd("multiway::moe_feedforward", _gradient, setup_context=_save)
refuse_gradients("moe_feedforward_backward")
