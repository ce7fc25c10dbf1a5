"""The recurrent baseline: an LSTM in every space in place of linear attention (the authors' `MosLSTM`).

Scatter and gather are those of SSLA-Det; between them stands, for each touched space s, at position π, with no biases,

    (h_s, c_s) <- LSTM(S_π x, (h_s, c_s));   y += G_π h_s;   out = LayerNorm(y + x)

Its gates see the state, so the gates of one event need those of the event before: the work inside a space is matrix
products one after another, where linear attention has all of them at once.

Legend: N events, K positions, C input width, D width, E = 4 · D, P spaces of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from multiway_event_vision.baselines import lstm_native
from multiway_event_vision.baselines.lstm_scan import lstm_scan, lstm_step
from multiway_event_vision.ssla_det.layer import blind, carry_constant, free_direction, logits_of
from multiway_event_vision.ssla_det.model import SslaDet
from multiway_event_vision.ssla_det.spaces import Place, route, touched
from multiway_event_vision.ssla_det.state import StreamState


@dataclass(frozen=True)
class LstmWeights:
    """A layer's function. Input weights are folded into the scatter: W S_π as one matrix (K · 4 · D, C)."""

    inward: Tensor
    recurrent_ED: Tensor
    outward: Tensor
    """(D, K · D)"""
    residual_DC: Tensor | None
    norm_weight_D: Tensor
    norm_bias_D: Tensor
    norm_eps: float
    size: int

    def advance(
        self, x_NC: Tensor, place: Place, state_PE: Tensor, *, in_place: bool = False, fused: bool = True
    ) -> tuple[Tensor, Tensor]:
        """(out_ND, new state (P, 2 · D)) of events in canonical order; as `LayerWeights.advance`."""
        N, K, D = len(x_NC), self.size**2, len(self.norm_weight_D)
        gates_NKE = linear(x_NC, self.inward).view(N, K, 4 * D)
        if fused and lstm_native.supports(gates_NKE):
            h_NKD, moved_PE = lstm_native.advance(gates_NKE, self.recurrent_ED, self.size, place, state_PE)
            return self.leave(x_NC, h_NKD), moved_PE
        routes = route(place, self.size)
        h_RD, last_SE = lstm_scan(
            gates_NKE.flatten(0, 1).index_select(0, routes.row_R),
            self.recurrent_ED,
            routes.offsets,
            state_PE.index_select(0, routes.space_S),
        )
        h_NKD = h_RD.new_zeros(N * K, D).index_copy_(0, routes.row_R, h_RD).view(N, K, D)
        moved_PE = state_PE if in_place else state_PE.clone()
        moved_PE.index_copy_(0, routes.space_S, last_SE)
        return self.leave(x_NC, h_NKD), moved_PE

    def peek(self, x_NC: Tensor, place: Place, state_PE: Tensor) -> Tensor:
        """out_ND of events that each come next on this state; nothing is changed."""
        space_NK = touched(place, self.size)
        N, K, D = len(x_NC), self.size**2, len(self.norm_weight_D)
        gates_RE = linear(x_NC, self.inward).view(N * K, 4 * D)
        state_RE = state_PE[space_NK.clamp(min=0).flatten()]
        h_NKD = lstm_step(gates_RE, self.recurrent_ED, state_RE)[:, :D].reshape(N, K, D)
        return self.leave(x_NC, h_NKD.masked_fill((space_NK < 0)[:, :, None], 0))

    def leave(self, x_NC: Tensor, h_NKD: Tensor) -> Tensor:
        """out_ND from the states' outputs at every position: gather, residual, norm."""
        y_ND = linear(h_NKD.flatten(1), self.outward)
        y_ND = y_ND + (x_NC if self.residual_DC is None else linear(x_NC, self.residual_DC))
        return layer_norm(y_ND, y_ND.shape[1:], self.norm_weight_D, self.norm_bias_D, self.norm_eps)

    def frozen(self) -> LstmWeights:
        """A copy without gradients."""
        tensors: dict[str, Any] = {
            field.name: value.detach().clone()
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)


class LstmLayer(nn.Module):
    """The parameters of one layer: input width C, width D, side of its spaces."""

    def __init__(self, in_features: int, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        deviation = (2 / (in_features + width)) ** 0.5
        self.scatter = nn.Parameter(torch.randn(size * size * width, in_features) * deviation)
        self.gather = nn.Parameter(torch.randn(size * size * width, width) * deviation)
        self.input = nn.Parameter(torch.empty(4 * width, width).uniform_(-(width**-0.5), width**-0.5))
        self.recurrent = nn.Parameter(torch.empty(4 * width, width).uniform_(-(width**-0.5), width**-0.5))
        self.residual = nn.Linear(in_features, width, bias=False) if in_features != width else None
        self.norm = nn.LayerNorm(width)

    @torch.no_grad()
    def open_gates(self, horizon_D: Tensor) -> None:
        """Let cells begin with a memory of `horizon_D` events, as `SslaLayer.open_gates` does."""
        D, free_D = len(horizon_D), free_direction(len(horizon_D))
        blind(self.input, free_D)
        self.input[D : 2 * D] += torch.outer(logits_of(horizon_D), free_D) / D
        carry_constant(self.scatter, free_D)

    def weights(self, *, fold: bool = True) -> LstmWeights:
        """The layer's function with its present parameters, always folded."""
        K = self.size**2
        return LstmWeights(
            inward=torch.matmul(self.input, self.scatter.unflatten(0, (K, -1))).flatten(0, 1),
            recurrent_ED=self.recurrent,
            outward=self.gather.unflatten(0, (K, -1)).transpose(0, 1).flatten(1),
            residual_DC=None if self.residual is None else self.residual.weight,
            norm_weight_D=self.norm.weight,
            norm_bias_D=self.norm.bias,
            norm_eps=self.norm.eps,
            size=self.size,
        )


class LstmDet(SslaDet):
    """SSLA-Det with an LSTM in each space: same levels, thinning, peeks and head."""

    layer = LstmLayer

    def initial_state(self, height: int, width: int, streams: int = 1) -> StreamState:
        state = super().initial_state(height, width, streams)
        hidden = [[h_PD.new_zeros(len(h_PD), 2 * h_PD.shape[1]) for h_PD in level] for level in state.hidden]
        return replace(state, hidden=hidden)


def layer_flops(inputs: int, width: int, size: int, *, folded: bool = True) -> int:
    """Operations of one event in one layer, counted as in `ssla_det.cost`; plain as the released code counts."""
    c, d, K = inputs, width, size * size
    residual = d * (2 * c - 1) if c != d else 0
    scatter = 4 * d * (2 * c - 1) if folded else d * (2 * c - 1) + 4 * d * (2 * d - 1)
    # Gates: recurrent product and its sum; three sigmoids, two tanh (as a sigmoid), c: 3, h: 1.
    gates = 4 * d * (2 * d - 1) + 24 * d
    return K * (scatter + gates + d * (2 * d - 1) + d) + residual + d + 8 * d + 1
