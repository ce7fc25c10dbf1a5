"""The spatially sparse linear attention layer: a state in every space, of which an event changes those it touches.

For each touched space s, at position π, in the events' order (the paper's mixture of spaces, Section 3):

    z = S_π x;   q = W_q z;   v = W_v z;   g = sigmoid(W_g z)
    h_s <- g ⊙ h_s + v
    y  += G_π W_o (q ⊙ h_s)
    out = LayerNorm(y + x), with a linear map of x where the width changes

`advance` is the parallel form (scatter, compute, gather) and moves the states; `peek` only looks at them.

Legend: N events, K positions, C input width, D width, R rows, S touched spaces, P spaces of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from multiway_event_vision.kernels.segmented_scan import segmented_scan
from multiway_event_vision.ssla_det import fused as fused_layer
from multiway_event_vision.ssla_det.projections import FoldedProjection, PlainProjection, Projection
from multiway_event_vision.ssla_det.spaces import Place, route, touched

NORM_BIAS = 0.5
"""Of norms in front of layers whose gates were opened."""


def _snapshot(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


@dataclass(frozen=True)
class LayerWeights:
    """All that a layer's function needs: the projection in either form, the residual map and the norm."""

    projection: Projection
    residual_DC: Tensor | None
    norm_weight_D: Tensor
    norm_bias_D: Tensor
    norm_eps: float
    size: int

    def advance(
        self, x_NC: Tensor, place: Place, state_PD: Tensor, *, in_place: bool = False, fused: bool = True
    ) -> tuple[Tensor, Tensor]:
        """(out_ND, new state_PD) of events in canonical order.

        The given state is left as it is, for gradients; `in_place` moves it instead of a copy. `fused` takes the CPU's
        fast path where there is one.
        """
        if fused and fused_layer.supports(self.projection, x_NC):
            assert isinstance(self.projection, FoldedProjection)
            y_ND, moved_PD = fused_layer.advance(
                self.projection, self.size, x_NC, place, state_PD, in_place=in_place
            )
            return self._leave(x_NC, y_ND), moved_PD
        routes = route(place, self.size)
        v_NKD, g_NKD, q_NKD = self.projection.scatter(x_NC)
        N, K, D = v_NKD.shape
        v_RD, g_RD, q_RD = (
            rows.reshape(N * K, D).index_select(0, routes.row_R) for rows in (v_NKD, g_NKD, q_NKD)
        )
        h_RD = segmented_scan(v_RD, g_RD.sigmoid(), routes.offsets, state_PD.index_select(0, routes.space_S))
        o_NKD = h_RD.new_zeros(N * K, D).index_copy_(0, routes.row_R, q_RD * h_RD).view(N, K, D)
        last_SD = h_RD.index_select(0, routes.offsets[1:] - 1)
        moved_PD = state_PD if in_place else state_PD.clone()
        moved_PD.index_copy_(0, routes.space_S, last_SD)
        return self._leave(x_NC, self.projection.gather(o_NKD)), moved_PD

    def peek(self, x_NC: Tensor, place: Place, state_PD: Tensor) -> Tensor:
        """out_ND of events that each come next on this state; nothing is changed."""
        space_NK = touched(place, self.size)
        v_NKD, g_NKD, q_NKD = self.projection.scatter(x_NC)
        h_NKD = g_NKD.sigmoid() * state_PD[space_NK.clamp(min=0)] + v_NKD
        o_NKD = (q_NKD * h_NKD).masked_fill((space_NK < 0)[:, :, None], 0)
        return self._leave(x_NC, self.projection.gather(o_NKD))

    def frozen(self) -> LayerWeights:
        """A copy without gradients, for inference: training on does not change it."""
        return LayerWeights(
            self.projection.map(_snapshot),
            None if self.residual_DC is None else _snapshot(self.residual_DC),
            _snapshot(self.norm_weight_D),
            _snapshot(self.norm_bias_D),
            self.norm_eps,
            self.size,
        )

    def _leave(self, x_NC: Tensor, y_ND: Tensor) -> Tensor:
        """out_ND from what was gathered: residual, norm."""
        y_ND = y_ND + (x_NC if self.residual_DC is None else linear(x_NC, self.residual_DC))
        return layer_norm(y_ND, y_ND.shape[1:], self.norm_weight_D, self.norm_bias_D, self.norm_eps)


def free_direction(width: int) -> Tensor:
    """A random direction of the z of `width` features, as long as a typical z."""
    free_D = torch.randn(width)
    return free_D * (width**0.5 / free_D.norm())


def blind(weight_ED: Tensor, free_D: Tensor) -> None:
    """Let a matrix, in place, not see the direction."""
    weight_ED.sub_(torch.outer(weight_ED @ free_D, free_D) / len(free_D))


def logits_of(horizon_D: Tensor) -> Tensor:
    """What a sigmoid makes a gate of that forgets within so many events."""
    return torch.special.logit((-1 / horizon_D).exp())


def carry_constant(scatter_RC: Tensor, free_D: Tensor) -> None:
    """Let maps from what a norm with `NORM_BIAS` gives, stacked as one matrix, carry its constant part, and nothing
    else of it, as the direction; in place."""
    constant_R = free_D.repeat(len(scatter_RC) // len(free_D)) / (scatter_RC.shape[1] * NORM_BIAS)
    scatter_RC.copy_(scatter_RC - scatter_RC.mean(1, keepdim=True) + constant_R[:, None])


class SslaLayer(nn.Module):
    """The parameters of one layer.

    Args:
        in_features: C.
        width: D, features of a state and of the result.
        size: side k of a space in pixels, odd; K = k².
    """

    def __init__(self, in_features: int, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        deviation = (2 / (in_features + width)) ** 0.5
        # Stacks of K matrices, as one matrix each: so Muon moves them.
        self.scatter = nn.Parameter(torch.randn(size * size * width, in_features) * deviation)
        self.gather = nn.Parameter(torch.randn(size * size * width, width) * deviation)
        self.query = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.residual = nn.Linear(in_features, width, bias=False) if in_features != width else None
        self.norm = nn.LayerNorm(width)

    @torch.no_grad()
    def open_gates(self, horizon_D: Tensor) -> None:
        """Let states begin with a memory of `horizon_D` events, each feature its own: g = exp(-1 / horizon).

        Gates have no bias, and a random one forgets within two events. But what the norm before this layer gives,
        x = n + b, has a direction that is free: n sums to 0, so the sum of x is that of b alone. One direction of z
        carries it to the gates, and neither values nor queries see it. The layer stays the published one.
        """
        free_D = free_direction(len(horizon_D))
        for projection in (self.query, self.value, self.gate):
            blind(projection.weight, free_D)
        self.gate.weight += torch.outer(logits_of(horizon_D), free_D) / len(free_D)
        carry_constant(self.scatter, free_D)

    def weights(self, *, fold: bool = True) -> LayerWeights:
        """The layer's function with its present parameters; gradients flow through to them."""
        projection: Projection
        plain = PlainProjection(
            self.scatter.unflatten(0, (self.size**2, -1)),
            self.gather.unflatten(0, (self.size**2, -1)),
            self.query.weight,
            self.value.weight,
            self.gate.weight,
            self.output.weight,
        )
        projection = plain.fold() if fold else plain
        residual = None if self.residual is None else self.residual.weight
        return LayerWeights(projection, residual, self.norm.weight, self.norm.bias, self.norm.eps, self.size)
