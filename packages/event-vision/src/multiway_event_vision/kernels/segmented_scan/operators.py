"""The segmented scan as operators of `torch.library`, so that `torch.compile` and `torch.export` see one node each."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from multiway_blocks.kernels.arguments import refuse_gradients
from torch import Tensor

from multiway_event_vision.kernels.segmented_scan import cpu, reference

torch.library.define(
    "multiway::segmented_scan", "(Tensor u, Tensor g, Tensor offsets, Tensor initial) -> Tensor"
)
torch.library.define(
    "multiway::segmented_scan_backward",
    "(Tensor grad_h, Tensor g, Tensor h, Tensor offsets, Tensor initial) -> (Tensor, Tensor, Tensor)",
)
segmented_scan = torch.ops.multiway.segmented_scan.default
segmented_scan_backward = torch.ops.multiway.segmented_scan_backward.default


def _implementation(rows: Tensor) -> ModuleType:
    if rows.is_cpu:
        return cpu if cpu.supports(rows.dtype) else reference
    if rows.is_cuda:
        from multiway_event_vision.kernels.segmented_scan import triton  # not installed on every system

        return triton if triton.supports(rows.dtype) else reference
    return reference


@torch.library.impl("multiway::segmented_scan", "CompositeExplicitAutograd")
def _(u: Tensor, g: Tensor, offsets: Tensor, initial: Tensor) -> Tensor:
    return _implementation(u).forward(
        u.contiguous(), g.contiguous(), offsets.contiguous(), initial.contiguous()
    )


@torch.library.impl("multiway::segmented_scan_backward", "CompositeExplicitAutograd")
def _(
    grad_h: Tensor, g: Tensor, h: Tensor, offsets: Tensor, initial: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _implementation(h).backward(
        grad_h.contiguous(), g.contiguous(), h.contiguous(), offsets.contiguous(), initial.contiguous()
    )


@torch.library.register_fake("multiway::segmented_scan")
def _(u: Tensor, g: Tensor, offsets: Tensor, initial: Tensor) -> Tensor:
    return u.new_empty(u.shape)


@torch.library.register_fake("multiway::segmented_scan_backward")
def _(
    grad_h: Tensor, g: Tensor, h: Tensor, offsets: Tensor, initial: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return h.new_empty(h.shape), h.new_empty(h.shape), initial.new_empty(initial.shape)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    _, g, offsets, initial = inputs
    ctx.save_for_backward(g, output, offsets, initial)


def _gradient(ctx: Any, grad_h: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
    g, h, offsets, initial = ctx.saved_tensors
    grad_u, grad_g, grad_initial = segmented_scan_backward(grad_h, g, h, offsets, initial)
    return grad_u, grad_g, None, grad_initial


torch.library.register_autograd("multiway::segmented_scan", _gradient, setup_context=_save)
refuse_gradients("segmented_scan_backward")
