"""TimeReplayer (He et al., CVPR 2022): the network, as figure 2 of the paper goes.

    events from t to t1 ──────────────────────► flow network  ──► F(t→1) ─┐
    events from t0 to t, reversed ────────────► its twin      ──► F(t→0) ─┤
    frames at t0 and t1, both warped to t ────────────────────────────────┴─► refinement ─► ΔF, visibility ─► frame at t

The paper's text tells the parts and not their sizes; those, refinement and synthesis are those of Jiang et al., "Super
SloMo" (2018), which it builds on. Shape letters: B batch, N bins, C channels, H W rows and columns; 2 is (x, y).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, cat, nn
from torch.nn.functional import interpolate, leaky_relu, pad

from multiway_event_vision.time_replayer.config import TimeReplayerConfig, UNetConfig
from multiway_event_vision.time_replayer.unet import SLOPE, UNet, convolution
from multiway_event_vision.time_replayer.warp import warp

_FEW = 0.3  # events; the mean time of fewer is drawn to the middle


class Synthesis(NamedTuple):
    """A frame, and what it was made of. Flows are in pixels: where to look in the frames at t0 and t1."""

    frame_B3HW: Tensor
    to_first_B2HW: Tensor  # F(t→0) of the flow network
    to_second_B2HW: Tensor
    refined_to_first_B2HW: Tensor
    refined_to_second_B2HW: Tensor
    visibility_B1HW: Tensor  # of the first frame's pixels; the second's is 1 minus that


class _Shrunk(nn.Module):
    """A U-Net at 1 / 2**halvings of the resolution, its result as large as its input."""

    def __init__(self, channels: int, outputs: int, config: UNetConfig, halvings: int) -> None:
        super().__init__()
        width = config.widths[0]
        inputs = [channels, *[width] * halvings]
        self.halve = nn.ModuleList(convolution(before, width, 4, stride=2) for before in inputs[:-1])
        self.unet = UNet(inputs[-1], outputs, config)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scale, (height, width) = 2 ** len(self.halve), x_BCHW.shape[-2:]
        x_BCHW = pad(x_BCHW, (0, -width % scale, 0, -height % scale), mode="replicate")
        for halve in self.halve:
            x_BCHW = leaky_relu(halve(x_BCHW), SLOPE)
        y_BCHW = self.unet(x_BCHW).float()
        if scale > 1:
            y_BCHW = interpolate(y_BCHW, scale_factor=float(scale), mode="bilinear", align_corners=False)
        return y_BCHW[..., :height, :width]


class TimeReplayer(nn.Module):
    """Two flow networks on events, refinement on frames and flows, synthesis. A linear blend before training."""

    def __init__(self, config: TimeReplayerConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.bins + 2 if config.condition else config.bins
        self.ahead = _Shrunk(channels, 2, config.flow, config.flow_halvings)
        # A pixel's thresholds and refractory time do not reverse, so reversed events get weights of their own.
        self.back = _Shrunk(channels, 2, config.flow, config.flow_halvings)
        self.refinement = _Shrunk(16, 5, config.refinement, config.refinement_halvings)

    def flow_ahead(self, events_BNHW: Tensor) -> Tensor:
        """F(t→1) from the voxel grid of the events from t to t1; (B, 2, H, W) float32 pixels."""
        return self.ahead(self._seen(events_BNHW)).float()

    def flow_back(self, reversed_BNHW: Tensor) -> Tensor:
        """F(t→0) from the voxel grid of the reversed events from t0 to t; (B, 2, H, W) float32 pixels."""
        return self.back(self._seen(reversed_BNHW)).float()

    def forward(
        self,
        first_B3HW: Tensor,
        second_B3HW: Tensor,
        reversed_BNHW: Tensor,
        events_BNHW: Tensor,
        position_B: Tensor,
        has_second_B: Tensor | None = None,
    ) -> Synthesis:
        """The frame at `position` of the way from the first frame to the second.

        frames: 0 to 1. reversed_BNHW, events_BNHW: grids of the events before t (reversed) and after it.
        has_second_B: bool, all by default. Where it is false the frame lies beyond the first one, none follows, and
        neither `second` nor `events` nor `position` counts: extrapolation.
        """
        return self.synthesize(
            first_B3HW,
            second_B3HW,
            self.flow_back(reversed_BNHW),
            self.flow_ahead(events_BNHW),
            position_B,
            has_second_B,
        )

    def synthesize(
        self,
        first_B3HW: Tensor,
        second_B3HW: Tensor,
        to_first_B2HW: Tensor,
        to_second_B2HW: Tensor,
        position_B: Tensor,
        has_second_B: Tensor | None = None,
    ) -> Synthesis:
        """Refinement and synthesis, given the flows. Arguments as `forward`."""
        has_second_B111 = (
            torch.ones_like(position_B) if has_second_B is None else has_second_B.to(position_B.dtype)
        )
        has_second_B111 = has_second_B111.view(-1, 1, 1, 1)
        second_B3HW, to_second_B2HW = second_B3HW * has_second_B111, to_second_B2HW * has_second_B111
        first_there, second_there = warp(first_B3HW, to_first_B2HW), warp(second_B3HW, to_second_B2HW)
        seen = (first_B3HW, second_B3HW, first_there, second_there, to_first_B2HW, to_second_B2HW)
        change_B5HW = self.refinement(cat(seen, 1)).float()
        refined_first_B2HW = to_first_B2HW + change_B5HW[:, :2]
        refined_second_B2HW = to_second_B2HW + change_B5HW[:, 2:4]
        visible_B1HW = torch.sigmoid(change_B5HW[:, 4:])
        visible_B1HW = 1 - has_second_B111 * (1 - visible_B1HW)
        # Super SloMo, equation 4: the nearer frame counts more, and what it does not see comes from the other.
        position_B111 = position_B.view(-1, 1, 1, 1) * has_second_B111
        weight_first, weight_second = (1 - position_B111) * visible_B1HW, position_B111 * (1 - visible_B1HW)
        mixed = weight_first * warp(first_B3HW, refined_first_B2HW)
        mixed = mixed + weight_second * warp(second_B3HW, refined_second_B2HW)
        frame_B3HW = mixed / (weight_first + weight_second).clamp(min=1e-6)
        return Synthesis(
            frame_B3HW, to_first_B2HW, to_second_B2HW, refined_first_B2HW, refined_second_B2HW, visible_B1HW
        )

    def _seen(self, grid_BNHW: Tensor) -> Tensor:
        """What a flow network sees of a grid."""
        if not self.config.condition:
            return grid_BNHW
        count_BNHW = grid_BNHW.abs()
        total_B1HW = count_BNHW.sum(1, keepdim=True)
        time_N11 = torch.linspace(-1, 1, grid_BNHW.shape[1], device=grid_BNHW.device)[:, None, None]
        mean_time_B1HW = (time_N11 * count_BNHW).sum(1, keepdim=True) / (total_B1HW + _FEW)
        return cat((grid_BNHW.sign() * count_BNHW.log1p(), total_B1HW.log1p(), mean_time_B1HW), 1)
