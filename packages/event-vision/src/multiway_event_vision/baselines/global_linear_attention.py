"""The baseline without spaces: one state for the whole frame (the authors' `LinearAttention`).

    z = W_in x where the width changes, else x;   q = W_q z;   v = W_v z;   g = sigmoid(W_g z)
    h <- g ⊙ h + v
    out = LayerNorm(W_o (q ⊙ h) + x), with a linear map of x where the width changes

It is SSLA-Det's layer on a frame of a single pixel: all events of a stream move the same state, one after another, and
what happened around an event reaches it only as far as the state of the whole frame tells.

Legend: N events, C input width, D width, B streams.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from multiway_event_vision.ssla_det.layer import (
    NORM_BIAS,
    LayerWeights,
    blind,
    carry_constant,
    free_direction,
    logits_of,
)
from multiway_event_vision.ssla_det.model import SslaDet
from multiway_event_vision.ssla_det.projections import FoldedProjection
from multiway_event_vision.ssla_det.spaces import Place
from multiway_event_vision.ssla_det.state import StreamState


@dataclass(frozen=True)
class GlobalWeights:
    """A layer's function."""

    layer: LayerWeights

    def advance(
        self, x_NC: Tensor, place: Place, state_BD: Tensor, *, in_place: bool = False, fused: bool = True
    ) -> tuple[Tensor, Tensor]:
        """(out_ND, new state_BD) of events in canonical order; as `LayerWeights.advance`."""
        return self.layer.advance(x_NC, _one_pixel(place), state_BD, in_place=in_place, fused=fused)

    def peek(self, x_NC: Tensor, place: Place, state_BD: Tensor) -> Tensor:
        """out_ND of events that each come next on this state; nothing is changed."""
        return self.layer.peek(x_NC, _one_pixel(place), state_BD)

    def frozen(self) -> GlobalWeights:
        """A copy without gradients."""
        return GlobalWeights(self.layer.frozen())


def _one_pixel(place: Place) -> Place:
    zero_N = torch.zeros_like(place.y_N)
    return Place(place.stream_N, zero_N, zero_N, 1, 1)


class GlobalLayer(nn.Module):
    """The parameters of one layer: input width C, width D. The side of a space means nothing here."""

    def __init__(self, in_features: int, width: int, size: int) -> None:
        super().__init__()
        changes = in_features != width
        self.input = nn.Linear(in_features, width, bias=False) if changes else None
        self.query = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.residual = nn.Linear(in_features, width, bias=False) if changes else None
        self.norm = nn.LayerNorm(width)

    @torch.no_grad()
    def open_gates(self, horizon_D: Tensor) -> None:
        """Let states begin with a memory of `horizon_D` events, as `SslaLayer.open_gates` does."""
        D = len(horizon_D)
        free_D, share = torch.ones(D), D * NORM_BIAS
        if self.input is not None:
            free_D, share = free_direction(D), float(D)
            carry_constant(self.input.weight, free_D)
        for projection in (self.query, self.value, self.gate):
            blind(projection.weight, free_D)
        self.gate.weight += torch.outer(logits_of(horizon_D), free_D) / share

    def weights(self, *, fold: bool = True) -> GlobalWeights:
        """The layer's function with its present parameters; the input map is always folded into the three behind it."""
        inward = torch.cat([self.value.weight, self.gate.weight, self.query.weight])
        if self.input is not None:
            inward = inward @ self.input.weight
        projection = FoldedProjection(inward, self.output.weight)
        residual = None if self.residual is None else self.residual.weight
        norm = self.norm
        return GlobalWeights(LayerWeights(projection, residual, norm.weight, norm.bias, norm.eps, size=1))


class GlobalDet(SslaDet):
    """SSLA-Det with one state a layer and stream: same levels, thinning, peeks and head."""

    layer = GlobalLayer

    def initial_state(self, height: int, width: int, streams: int = 1) -> StreamState:
        state = super().initial_state(height, width, streams)
        hidden = [[h_PD.new_zeros(streams, h_PD.shape[1]) for h_PD in level] for level in state.hidden]
        return replace(state, hidden=hidden)

    def stale_cells(self, state: StreamState) -> Tensor:
        """All cells that had an event, as soon as one moved a state that peeks look at."""
        if bool((state.fresh_G > 1).any()):
            return state.depth_G > 0
        return state.fresh_G > 0


def layer_flops(inputs: int, width: int, size: int, *, folded: bool = True) -> int:
    """Operations of one event in one layer, counted as in `ssla_det.cost`; plain as the released code counts."""
    c, d = inputs, width
    changed = d * (2 * c - 1) if c != d else 0
    inward = 3 * d * (2 * c - 1) if folded else changed + 3 * d * (2 * d - 1)
    sigmoid_scan_product = 4 * d + 2 * d + d
    return inward + sigmoid_scan_product + d * (2 * d - 1) + changed + d + 8 * d + 1
