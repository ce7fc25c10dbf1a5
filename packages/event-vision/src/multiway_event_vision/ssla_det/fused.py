"""A fused layer on a CPU that keeps its rows in the cache; equal to scatter-compute-gather.

Events stay in their order, which is the order of every space, so nothing is sorted. Some hundred events at a time are
projected by one matrix product; their states move one event after the other (`native.cpp`); a second product gathers.
The backward pass goes through the same blocks from the last to the first and computes the projections anew: of N · K
rows only the states before each event are kept.

Legend: N events, n events of a block, K positions, C input width, D width, P spaces of the frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from multiway_event_vision.ssla_det import native
from multiway_event_vision.ssla_det.projections import FoldedProjection, Projection
from multiway_event_vision.ssla_det.spaces import Place

_PROJECTED_AT_ONCE = 100_000  # numbers: they should stay in a core's cache


def supports(projection: Projection, x_NC: Tensor) -> bool:
    """Whether `advance` can run: folded matrices of float32 or float64 on a CPU, and a compiler."""
    return (
        isinstance(projection, FoldedProjection) and x_NC.is_cpu and ("mix", x_NC.dtype) in native.functions()
    )


def advance(
    projection: FoldedProjection, size: int, x_NC: Tensor, place: Place, state_PD: Tensor, *, in_place: bool
) -> tuple[Tensor, Tensor]:
    """(gathered y_ND before residual and norm, moved state_PD); differentiable unless `in_place`."""
    inward, outward = projection.inward, projection.outward
    if torch.is_grad_enabled() and not in_place:
        y_ND, moved_PD = _Advance.apply(x_NC, inward, outward, state_PD, place, size)
        return y_ND, moved_PD
    moved_PD = state_PD if in_place else state_PD.clone()
    return _Slice(inward, outward, place, size).forward(x_NC, moved_PD, None), moved_PD


@dataclass(frozen=True)
class _Slice:
    """The blocks of one call."""

    inward: Tensor
    outward: Tensor
    place: Place
    size: int

    def forward(self, x_NC: Tensor, state_PD: Tensor, before_NKD: Tensor | None) -> Tensor:
        """y_ND; moves the states, and notes them as they were before each event."""
        KD = self.outward.shape[1]
        y_ND = x_NC.new_empty(len(x_NC), len(self.outward))
        gate = x_NC.new_empty(native.padded(KD))
        for part, numbers in self._blocks(len(x_NC)):
            projected = self._projected(x_NC[part])
            o_nKD = x_NC.new_empty(len(projected), KD)
            before = None if before_NKD is None else before_NKD[part].data_ptr()
            native.functions()["mix", x_NC.dtype](
                *numbers, projected.data_ptr(), state_PD.data_ptr(), gate.data_ptr(), o_nKD.data_ptr(), before
            )
            torch.mm(o_nKD, self.outward.t(), out=y_ND[part])
        return y_ND

    def backward(
        self, grad_y_ND: Tensor, x_NC: Tensor, before_NKD: Tensor, grad_state_PD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of (x, inward, outward); `grad_state_PD` turns from that of the moved states to the given ones'."""
        KD = self.outward.shape[1]
        grad_x_NC = torch.empty_like(x_NC)
        grad_inward, grad_outward = torch.zeros_like(self.inward), torch.zeros_like(self.outward)
        gate = x_NC.new_empty(native.padded(KD))
        for part, numbers in reversed(list(self._blocks(len(x_NC)))):
            projected = self._projected(x_NC[part])
            grad_o_nKD = torch.mm(grad_y_ND[part], self.outward)
            grad_projected, o_nKD = torch.empty_like(projected), torch.empty_like(grad_o_nKD)
            native.functions()["mix_back", x_NC.dtype](
                *numbers,
                projected.data_ptr(),
                before_NKD[part].data_ptr(),
                grad_o_nKD.data_ptr(),
                grad_state_PD.data_ptr(),
                gate.data_ptr(),
                grad_projected.data_ptr(),
                o_nKD.data_ptr(),
            )
            torch.mm(grad_projected, self.inward, out=grad_x_NC[part])
            grad_inward.addmm_(grad_projected.t(), x_NC[part])
            grad_outward.addmm_(grad_y_ND[part].t(), o_nKD)
        return grad_x_NC, grad_inward, grad_outward

    def _projected(self, x_nC: Tensor) -> Tensor:
        # One row more than there are: vectors may be read beyond the last number.
        rows = x_nC.new_empty(len(x_nC) + 1, len(self.inward))[:-1]
        return torch.mm(x_nC, self.inward.t(), out=rows)

    def _blocks(self, N: int) -> Iterator[tuple[slice, tuple[int, ...]]]:
        """Each block's slice, and what the C functions are told about it first."""
        place, D = self.place, len(self.outward)
        step = max(native.LANES, _PROJECTED_AT_ONCE // len(self.inward))
        where = [axis.contiguous() for axis in (place.stream_N, place.y_N, place.x_N)]
        for start in range(0, N, step):
            part = slice(start, min(start + step, N))
            numbers = (part.stop - start, self.size, D, place.height, place.width)
            yield part, (*numbers, *(axis[start:].data_ptr() for axis in where))


class _Advance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_NC: Tensor, inward: Tensor, outward: Tensor, state_PD: Tensor, place: Place, size: int
    ) -> tuple[Tensor, Tensor]:
        x_NC, inward, outward = x_NC.contiguous(), inward.contiguous(), outward.contiguous()
        moved_PD = state_PD.clone(memory_format=torch.contiguous_format)
        before_NKD = x_NC.new_empty(len(x_NC), outward.shape[1])
        y_ND = _Slice(inward, outward, place, size).forward(x_NC, moved_PD, before_NKD)
        ctx.save_for_backward(x_NC, inward, outward, before_NKD)
        ctx.place, ctx.size = place, size
        return y_ND, moved_PD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y_ND: Tensor, grad_moved_PD: Tensor) -> tuple[Tensor | None, ...]:
        x_NC, inward, outward, before_NKD = ctx.saved_tensors
        grad_state_PD = grad_moved_PD.clone(memory_format=torch.contiguous_format)
        work = _Slice(inward, outward, ctx.place, ctx.size)
        grad_x_NC, *grads = work.backward(grad_y_ND.contiguous(), x_NC, before_NKD, grad_state_PD)
        return grad_x_NC, *grads, grad_state_PD, None, None
