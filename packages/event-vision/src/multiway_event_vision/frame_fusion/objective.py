"""The loss: PSNR, the number that counts, of every crop, and the mean error."""

from __future__ import annotations

import torch
from multiway_core.training import Loss

from multiway_event_vision.frame_fusion.model import FrameFusion
from multiway_event_vision.frame_fusion.samples import FusionBatch

_FLOOR = 2e-5  # of the mean squared error: beyond 47 dB nothing is to be gained
_ABSOLUTE = 10.0  # weight of the mean absolute error, on frames of 0 to 1


def reconstruction(model: FrameFusion, batch: FusionBatch) -> Loss:
    """-PSNR of every crop (dB), as Chen et al., "Simple Baselines for Image Restoration" (2022), and the mean error."""
    made = model(batch.images_BK3HW.float() / 255, batch.features_BCHW)
    difference_B3HW = made.frame_B3HW - batch.truth_B3HW.float() / 255
    squared_B = difference_B3HW.square().mean((1, 2, 3))
    psnr_B = -10 * torch.log10(squared_B + _FLOOR)
    total = (_ABSOLUTE * difference_B3HW.abs().mean((1, 2, 3)) - psnr_B).sum()
    return Loss(total, len(squared_B), {"psnr": psnr_B.detach().mean()}, samples=len(squared_B))
