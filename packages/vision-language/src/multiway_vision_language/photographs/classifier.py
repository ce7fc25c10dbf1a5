"""1,000 more names: EfficientNet-lite2 on a whole photograph and on what the detector found in it.

Shape suffixes: B pictures (the whole one, then boxes), C classes, H, W cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from multiway_vision_language.photo_search.efficientnet import EfficientNetLite
from multiway_vision_language.photographs.detector import Detections
from multiway_vision_language.result import XYXY

SIDE = 256
MAX_BOXES = 10
_LEAST, _SAME, _PAD = 0.06, 0.7, 0.1
_SMALLEST = 24  # pixels of a side
_CELLS = 0.4  # of the best cell's probability


class Named(NamedTuple):
    """``boxes``: the whole picture first; ``chances_BC``; ``cells_HWC``: probabilities at each place of the picture."""

    boxes: list[XYXY]
    chances_BC: Tensor
    cells_HWC: Tensor

    def best(self, classes: tuple[int, ...]) -> tuple[float, XYXY]:
        """How likely the picture shows one of some classes, and where."""
        chances_B = self.chances_BC[:, list(classes)].sum(1)
        place = int(chances_B.argmax())
        chance = float(chances_B[place])
        return chance, (self._of_cells(classes) if place == 0 else self.boxes[place])

    def _of_cells(self, classes: tuple[int, ...]) -> XYXY:
        """The rectangle of cells that look like it."""
        chances_HW = self.cells_HWC[..., list(classes)].sum(-1)
        high, wide = chances_HW.shape
        y, x = torch.where(chances_HW >= _CELLS * chances_HW.max())
        _, _, width, height = self.boxes[0]
        left, top = float(x.min()) * width / wide, float(y.min()) * height / high
        return left, top, float(x.max() + 1) * width / wide, float(y.max() + 1) * height / high


@torch.inference_mode()
def classify(
    network: EfficientNetLite, image: Image.Image, found: Detections, *, dtype: torch.dtype = torch.float32
) -> Named:
    """Names of the picture and of the detector's boxes, whatever the detector calls them."""
    from torchvision import ops

    kept = ops.nms(found.boxes_N4, found.scores_N, _SAME)
    rows = [row for row in kept.tolist() if found.scores_N[row] >= _LEAST]
    boxes: list[XYXY] = [(0.0, 0.0, float(image.width), float(image.height))]
    for row in rows:
        left, top, right, bottom = found.boxes_N4[row].tolist()
        if min(right - left, bottom - top) >= _SMALLEST and len(boxes) <= MAX_BOXES:
            boxes.append((left, top, right, bottom))
    device = network.classifier.weight.device
    pixels_BCHW = torch.stack([_pixels(image, box) for box in boxes]).to(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        features_BFHW = network(pixels_BCHW.contiguous(memory_format=torch.channels_last))
        head = network.classifier
        chances_BC = head(features_BFHW.mean((2, 3))).float().softmax(-1)
        cells_HWC = (
            nn.functional.linear(features_BFHW[0].permute(1, 2, 0), head.weight, head.bias)
            .float()
            .softmax(-1)
        )
    return Named(boxes, chances_BC.cpu(), cells_HWC.cpu())


def _pixels(image: Image.Image, box: XYXY) -> Tensor:
    left, top, right, bottom = box
    across, down = _PAD * (right - left), _PAD * (bottom - top)
    place = (
        max(0, left - across),
        max(0, top - down),
        min(image.width, right + across),
        min(image.height, bottom + down),
    )
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=place, reducing_gap=2.0))
    return torch.from_numpy(small.copy()).permute(2, 0, 1).float()
