"""The losses as an operator of `torch.library`, so that `torch.compile` and `torch.export` see one node.

Gradients are results of the forward operator, as far as they are asked for: the backward pass scales them.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_blocks.kernels.linear_cross_entropy import chunks
from multiway_blocks.kernels.linear_cross_entropy.reference import Teacher

torch.library.define(
    "multiway::linear_cross_entropy",
    "(Tensor x, Tensor weight, Tensor target, Tensor row_weight, Tensor? teacher_x, Tensor? teacher_weight,"
    " Tensor? teacher_row_weight, float temperature, bool need_x, bool need_weight)"
    " -> (Tensor loss, Tensor divergence, Tensor grad_x, Tensor grad_weight)",
)
linear_cross_entropy = torch.ops.multiway.linear_cross_entropy.default


def _implementation(x: Tensor) -> ModuleType:
    """The module whose `forward` serves this device and data type."""
    if x.is_cuda and importlib.util.find_spec("triton") is not None:
        from multiway_blocks.kernels.linear_cross_entropy import triton  # not installed on every system

        return triton if triton.supports(x.dtype) else chunks
    return chunks


@torch.library.impl("multiway::linear_cross_entropy", "CompositeExplicitAutograd")
def _(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    row_weight: Tensor,
    teacher_x: Tensor | None,
    teacher_weight: Tensor | None,
    teacher_row_weight: Tensor | None,
    temperature: float,
    need_x: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if x.is_cpu and target.numel() and int(target.max()) >= weight.shape[0]:
        raise InputError(
            f"linear_cross_entropy: target {int(target.max())} is outside the {weight.shape[0]} outputs"
        )
    teacher = None
    if teacher_x is not None and teacher_weight is not None and teacher_row_weight is not None:
        teacher = Teacher(
            teacher_x.contiguous(), teacher_weight.contiguous(), teacher_row_weight.contiguous(), temperature
        )
    cross_entropy, divergence, *gradients = _implementation(x).forward(
        x.contiguous(), weight.contiguous(), target.contiguous(), row_weight.contiguous(), teacher,
        (need_x, need_weight),
    )  # fmt: skip
    return cross_entropy + divergence, divergence, *gradients


@torch.library.register_fake("multiway::linear_cross_entropy")
def _(x: Tensor, weight: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    need_x, need_weight = others[-2:]
    wide = torch.promote_types(x.dtype, torch.float32)
    return (
        x.new_empty((), dtype=wide),
        x.new_empty((), dtype=wide),
        x.new_empty(x.shape if need_x else (0,)),
        x.new_empty(weight.shape if need_weight else (0,), dtype=wide),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[2:])
    ctx.dtypes = inputs[0].dtype, inputs[1].dtype
    ctx.needed = inputs[-2:]
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_loss, grad_divergence, *others = grads
    if grad_divergence is not None or any(grad is not None for grad in others):
        raise NotImplementedError(
            "linear_cross_entropy has the derivative of its loss alone, and no second one; its definition has them,"
            " and runs with MULTIWAY_KERNELS=reference"
        )
    if grad_loss is None:
        return (None,) * 10
    found = (
        (saved * grad_loss).to(dtype) if needed else None
        for saved, dtype, needed in zip(ctx.saved_tensors, ctx.dtypes, ctx.needed, strict=True)
    )
    return (*found, *(None,) * 8)


torch.library.register_autograd("multiway::linear_cross_entropy", _gradient, setup_context=_save)
