"""The fusion network: which candidate to trust at each pixel, and what all of them miss.

    candidates, features ─► U-Net, from half the resolution on ─► weights of the candidates ─► mix ─┐
                                        └─────────────── features ──────────────────────────────────┴─► + residual

The weights are a softmax whose bias is a candidate's nearness in time, and, before training, trust in optical flow
alone: an untrained network gives optical flow's frame. Shape letters: B batch, K candidates, C channels, H W rows and
columns.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, cat, nn
from torch.nn.functional import interpolate, leaky_relu, pad, pixel_shuffle, pixel_unshuffle

from multiway_event_vision.frame_fusion.candidates import FEATURES, NAMES
from multiway_event_vision.frame_fusion.config import FusionConfig

SLOPE = 0.1
_UNTRAINED = 6.0  # logit by which flow candidates lead before training
_NEAREST = 1e-3  # share of a frame, at least: its logarithm stays finite


class Fused(NamedTuple):
    """A frame (B, 3, H, W), 0 to 1 up to rounding, and the candidates' weights (B, K, H, W), which sum up to 1."""

    frame_B3HW: Tensor
    weights_BKHW: Tensor


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner_BCHW: Tensor = self.second(leaky_relu(self.first(x_BCHW), SLOPE))
        return leaky_relu(x_BCHW + inner_BCHW, SLOPE)


class FrameFusion(nn.Module):
    """Candidates and features in, a frame out. Optical flow's mix before training."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        widths, kinds = config.widths, len(NAMES)
        self.enter = nn.Conv2d(4 * (3 * kinds + FEATURES), widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 4, stride=2, padding=1) for fine, coarse in pairwise(widths)
        )
        self.encode = nn.ModuleList(_Residual(width) for width in widths)
        self.up = nn.ModuleList(
            nn.Conv2d(coarse + fine, fine, 3, padding=1) for fine, coarse in pairwise(widths)
        )
        self.decode = nn.ModuleList(_Residual(width) for width in widths[:-1])
        self.leave = nn.Conv2d(widths[0], 4 * (kinds + config.fine), 3, padding=1)
        self.fine = nn.Conv2d(3 + 3 * kinds + config.fine, config.fine, 3, padding=1)
        self.residual = nn.Conv2d(config.fine, 3, 3, padding=1)
        with torch.no_grad():
            self.residual.weight.zero_()
            self.residual.bias.zero_()  # type: ignore[union-attr]
            self.leave.weight[: 4 * kinds].zero_()
            self.leave.bias[: 4 * kinds].zero_()  # type: ignore[index]
            self.leave.bias[:8] += _UNTRAINED  # type: ignore[index]  # 4 pixels of each of the two flow candidates

    def forward(self, images_BK3HW: Tensor, features_BCHW: Tensor) -> Fused:
        """images: the candidates, 0 to 1. features: as `Candidates.features_CHW`."""
        kinds, (height, width) = images_BK3HW.shape[1], images_BK3HW.shape[-2:]
        step = 2 ** len(self.config.widths)
        margins = (0, -width % step, 0, -height % step)
        images_BCHW = pad(images_BK3HW.flatten(1, 2), margins, mode="replicate")
        features_BCHW = pad(features_BCHW, margins, mode="replicate")
        inner_BCHW = self._unet(pixel_unshuffle(cat((images_BCHW - 0.5, features_BCHW), 1), 2))
        told_BCHW = pixel_shuffle(self.leave(inner_BCHW), 2)
        share_B1HW = features_BCHW[:, :1].float()
        near_BKHW = cat((1 - share_B1HW, share_B1HW), 1).clamp(min=_NEAREST).log().repeat(1, kinds // 2, 1, 1)
        weights_BKHW = torch.softmax(told_BCHW[:, :kinds].float() + near_BKHW, 1)
        stacked_BK3HW = images_BCHW.unflatten(1, (kinds, 3))
        mixed_B3HW = (weights_BKHW[:, :, None] * stacked_BK3HW).sum(1)
        seen_BCHW = cat(
            (mixed_B3HW - 0.5, images_BCHW - mixed_B3HW.repeat(1, kinds, 1, 1), told_BCHW[:, kinds:]), 1
        )
        residual_B3HW = self.residual(leaky_relu(self.fine(seen_BCHW), SLOPE)).float()
        frame_B3HW = mixed_B3HW + residual_B3HW
        return Fused(frame_B3HW[..., :height, :width], weights_BKHW[..., :height, :width])

    def _unet(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.encode[0](leaky_relu(self.enter(x_BCHW), SLOPE))
        levels = [x_BCHW]
        for down, encode in zip(self.down, self.encode[1:], strict=True):
            levels.append(encode(leaky_relu(down(levels[-1]), SLOPE)))
        x_BCHW = levels.pop()
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            coarse_BCHW = interpolate(x_BCHW, scale_factor=2.0, mode="bilinear", align_corners=False)
            x_BCHW = decode(leaky_relu(up(cat((coarse_BCHW, levels.pop()), 1)), SLOPE))
        return x_BCHW
