"""Backward warping by optical flow.

Shape letters: B batch, C channels, H W rows and columns; 2 is (x, y).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def warp(image_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """The image seen at x + flow(x), in pixels, bilinearly; beyond the border its nearest pixel.

    The result has the image's shape; computed in float32.
    """
    height, width = image_BCHW.shape[-2:]
    flow_B2HW = flow_B2HW.float()
    columns_W = torch.arange(width, device=flow_B2HW.device, dtype=torch.float32)
    rows_H = torch.arange(height, device=flow_B2HW.device, dtype=torch.float32)
    # grid_sample counts from -1 to 1, here from the outer edge of the first pixel to that of the last.
    x_BHW = (2 * (columns_W + flow_B2HW[:, 0]) + 1) / width - 1
    y_BHW = (2 * (rows_H[:, None] + flow_B2HW[:, 1]) + 1) / height - 1
    grid_BHW2 = torch.stack((x_BHW, y_BHW), -1)
    return grid_sample(
        image_BCHW.float(), grid_BHW2, mode="bilinear", padding_mode="border", align_corners=False
    )
