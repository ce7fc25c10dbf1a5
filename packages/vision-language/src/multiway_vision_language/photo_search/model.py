"""The image side of the dual encoder: a picture as a vector in the space of a text encoder.

    pixels -- EfficientNet-lite -- class probabilities of the picture and of its best cell --.
       |                      `--- features of 1,280 channels, less their mean ---- residual --+--> vector
       `---- CenterNet ----------- scores of 80 kinds of things -- class table ----------------'

What is seen is thus told in words first: the table has a vector for each class, which training starts from the mean of
the text encoder's vectors of the class's names and gloss. The residual says what no class name does.

Shape suffixes: B batch, C classes, E numbers of a vector, F features, H, W cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from multiway_vision_language.kosmos2_small.backbones import CenterNet
from multiway_vision_language.photo_search.config import PhotoConfig
from multiway_vision_language.photo_search.efficientnet import STRIDE, EfficientNetLite

_LONGEST = 3.0  # sides of more than 3 to 1 are squeezed


class Seen(NamedTuple):
    """What the backbones see: weights of all classes (B, C) and features (B, F)."""

    classes_BC: Tensor
    features_BF: Tensor


class PhotoEncoder(nn.Module):
    """Both backbones and what makes a vector of what they see."""

    mean_features: Tensor

    def __init__(self, config: PhotoConfig) -> None:
        super().__init__()
        self.config = config
        self.detector = CenterNet()
        self.classifier = EfficientNetLite(
            config.width, config.depth, len(config.classes) - self.detector.num_classes
        )
        features = self.classifier.classifier.in_features
        self.table = nn.Parameter(torch.zeros(len(config.classes), config.vector))
        self.residual = nn.Parameter(torch.zeros(features, config.vector))
        self.bias = nn.Parameter(torch.zeros(config.vector))
        self.register_buffer("mean_features", torch.zeros(features))

    def forward(self, pixels_BCHW: Tensor, detector_pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels 0 to 255 at both sizes -> vectors (B, E) of length 1, and weights of the classes (B, C)."""
        seen = self.see(pixels_BCHW, detector_pixels_BCHW)
        return self.vectors(seen), seen.classes_BC

    def see(self, pixels_BCHW: Tensor, detector_pixels_BCHW: Tensor) -> Seen:
        """What the backbones, which training leaves as they are, find in pictures."""
        cells_BFHW = self.classifier(pixels_BCHW).float()
        features_BF = cells_BFHW.mean((2, 3))
        head = self.classifier.classifier
        whole_BC = nn.functional.linear(features_BF, head.weight, head.bias).softmax(-1)
        cells_BHWC = nn.functional.linear(cells_BFHW.permute(0, 2, 3, 1), head.weight, head.bias).softmax(-1)
        _, scores_BCHW, _ = self.detector(detector_pixels_BCHW)
        found_BC = scores_BCHW.float().sigmoid().amax((2, 3))
        own = self.config
        weights = [
            whole_BC + own.cell_gain * cells_BHWC.amax((1, 2)),
            own.detector_gain * (found_BC - own.detector_floor).clamp(min=0),
        ]
        return Seen(torch.cat(weights, 1), features_BF)

    def vectors(self, seen: Seen) -> Tensor:
        """(B, E) of length 1."""
        named_BE = normalize(seen.classes_BC @ self.table, dim=-1)
        features_BF = normalize(seen.features_BF - self.mean_features, dim=-1)
        return normalize(named_BE + features_BF @ self.residual + self.bias, dim=-1)


def seen_size(width: int, height: int, pixels: int) -> tuple[int, int]:
    """Sides in which a picture of ``width`` x ``height`` is seen: multiples of 32, about ``pixels``, its own shape."""
    ratio = min(max(width / height, 1 / _LONGEST), _LONGEST)
    wide = math.sqrt(pixels * ratio)
    sides = (max(3, round(side / STRIDE)) * STRIDE for side in (wide, wide / ratio))
    return next(sides), next(sides)
