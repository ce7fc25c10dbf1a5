"""Distillation of relations as operators of `torch.library`, one node each for `torch.compile`."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from multiway_blocks.kernels.arguments import refuse_gradients
from multiway_blocks.kernels.relation_distillation import chunks, cpu

torch.library.define(
    "multiway::relation_distillation",
    "(Tensor student, Tensor teacher, float scale) -> (Tensor kl, Tensor student_lse, Tensor teacher_lse)",
)
torch.library.define(
    "multiway::relation_distillation_backward",
    "(Tensor grad, Tensor student, Tensor teacher, float scale, Tensor student_lse, Tensor teacher_lse) -> Tensor",
)
relation_distillation = torch.ops.multiway.relation_distillation.default
relation_distillation_backward = torch.ops.multiway.relation_distillation_backward.default


def _implementation(student: Tensor, teacher: Tensor) -> ModuleType:
    """The module whose `forward` and `backward` serve this device and these rows."""
    if student.is_cpu:
        return cpu if cpu.supports(student.dtype) and cpu.supports(teacher.dtype) else chunks
    if student.is_cuda and importlib.util.find_spec("triton") is not None:
        from multiway_blocks.kernels.relation_distillation import triton  # not installed on every system

        width = max(student.shape[2], teacher.shape[2])
        return triton if triton.supports(student.dtype, teacher.dtype, width) else chunks
    return chunks


@torch.library.impl("multiway::relation_distillation", "CompositeExplicitAutograd")
def _(student: Tensor, teacher: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    implementation = _implementation(student, teacher)
    # Under autocast the float32 products inside would be bfloat16, which the C++ code takes for float32.
    with torch.autocast(student.device.type, enabled=False):
        return implementation.forward(student.contiguous(), teacher.contiguous(), scale)


@torch.library.impl("multiway::relation_distillation_backward", "CompositeExplicitAutograd")
def _(
    grad: Tensor, student: Tensor, teacher: Tensor, scale: float, student_lse: Tensor, teacher_lse: Tensor
) -> Tensor:
    tensors = (tensor.contiguous() for tensor in (grad, student, teacher))
    grad, student, teacher = tensors
    with torch.autocast(student.device.type, enabled=False):
        return _implementation(student, teacher).backward(
            grad, student, teacher, scale, student_lse.contiguous(), teacher_lse.contiguous()
        )


@torch.library.register_fake("multiway::relation_distillation")
def _(student: Tensor, teacher: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.promote_types(student.dtype, torch.float32)
    kl, student_lse, teacher_lse = (student.new_empty(student.shape[:2], dtype=wide) for _ in range(3))
    return kl, student_lse, teacher_lse


@torch.library.register_fake("multiway::relation_distillation_backward")
def _(
    grad: Tensor, student: Tensor, teacher: Tensor, scale: float, student_lse: Tensor, teacher_lse: Tensor
) -> Tensor:
    return student.new_empty(student.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, ctx.scale = inputs
    ctx.save_for_backward(student, teacher, *output[1:])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, grad_kl: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, None, None]:
    if grad_kl is None:
        return None, None, None
    student, teacher, student_lse, teacher_lse = ctx.saved_tensors
    grad = relation_distillation_backward(grad_kl, student, teacher, ctx.scale, student_lse, teacher_lse)
    return grad, None, None


torch.library.register_autograd("multiway::relation_distillation", _gradient, setup_context=_save)
refuse_gradients("relation_distillation_backward")
