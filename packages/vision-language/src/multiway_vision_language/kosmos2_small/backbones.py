"""Two small convolutional backbones with published weights: a classifier and a detector.

`EfficientNetLite0` (Tan & Le 2019, without squeeze-and-excite) was trained on ImageNet's 1,000 classes. `CenterNet`
(Zhou et al. 2019) on MobileNetV3 (Howard et al. 2019) was trained on COCO's 80 classes. Batch norm is folded into the
convolutions, so no norm is left here. Both pad as TensorFlow does ("SAME"), which the weights expect.

Shape suffixes: B batch, C channels, H height, W width. Sides must be multiples of 32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]


def pad_same(x_BCHW: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Zero padding so that a convolution gives ceil(side / stride), the odd row and column at the bottom and right."""
    height, width = x_BCHW.shape[-2:]
    rows = max((-(-height // stride) - 1) * stride + kernel_size - height, 0)
    columns = max((-(-width // stride) - 1) * stride + kernel_size - width, 0)
    return nn.functional.pad(x_BCHW, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


class Convolution(nn.Conv2d):
    """Convolution with "SAME" padding, then an activation; ``depthwise`` gives every channel its own filter."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = True,
        activation: Activation | None = None,
    ) -> None:
        # Where padding is even on both sides the convolution does it itself, which is faster.
        padding = kernel_size // 2 if stride == 1 else 0
        groups = inputs if depthwise else 1
        super().__init__(inputs, outputs, kernel_size, stride, padding, groups=groups, bias=bias)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        if self.stride[0] > 1:
            input = pad_same(input, self.kernel_size[0], self.stride[0])
        output = super().forward(input)
        return output if self.activation is None else self.activation(output)


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from the channels' means (Hu et al. 2018)."""

    def __init__(self, channels: int, inner: int, gate: Activation, *, bias: bool = True) -> None:
        super().__init__()
        self.reduce = Convolution(channels, inner, activation=nn.functional.relu)
        self.expand = Convolution(inner, channels, bias=bias, activation=gate)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x_BCHW * self.expand(self.reduce(x_BCHW.mean((2, 3), keepdim=True)))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project (Sandler et al. 2018); a residual where shapes allow one."""

    def __init__(
        self,
        inputs: int,
        expanded: int,
        outputs: int,
        kernel_size: int,
        stride: int,
        activation: Activation,
        *,
        squeeze: int = 0,
    ) -> None:
        super().__init__()
        self.expand = (
            Convolution(inputs, expanded, activation=activation) if expanded != inputs else nn.Identity()
        )
        self.filter = Convolution(
            expanded, expanded, kernel_size, stride=stride, depthwise=True, activation=activation
        )
        self.squeeze = (
            SqueezeExcite(expanded, squeeze, nn.functional.hardsigmoid) if squeeze else nn.Identity()
        )
        self.project = Convolution(expanded, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        return self.finish(x_BCHW, self.expand(x_BCHW))

    def finish(self, x_BCHW: Tensor, expanded_BCHW: Tensor) -> Tensor:
        """The block behind its expansion, which a detector's neck looks at as well."""
        output = self.project(self.squeeze(self.filter(expanded_BCHW)))
        return x_BCHW + output if self.residual else output


# Of each block: expanded channels, output channels, kernel size, stride.
_NAME_BLOCKS = (
    (32, 16, 3, 1),
    *((96, 24, 3, 2), (144, 24, 3, 1)),
    *((144, 40, 5, 2), (240, 40, 5, 1)),
    *((240, 80, 3, 2), (480, 80, 3, 1), (480, 80, 3, 1)),
    *((480, 112, 5, 1), (672, 112, 5, 1), (672, 112, 5, 1)),
    *((672, 192, 5, 2), (1152, 192, 5, 1), (1152, 192, 5, 1), (1152, 192, 5, 1)),
    (1152, 320, 3, 1),
)


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 up to its last block: features at strides 16 and 32.

    The published network expects pixels as ``(x - 127) / 128``; that is done here, so both backbones take 0 to 255.
    """

    middle_channels, last_channels = 112, 320
    num_middle = 11

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, stride=2, activation=nn.functional.relu6)
        blocks = []
        inputs = 32
        for expanded, outputs, kernel_size, stride in _NAME_BLOCKS:
            blocks.append(
                InvertedResidual(inputs, expanded, outputs, kernel_size, stride, nn.functional.relu6)
            )
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)

    def middle(self, pixels_BCHW: Tensor) -> Tensor:
        """Pixels 0 to 255 -> (B, 112, H/16, W/16)."""
        x_BCHW = self.stem((pixels_BCHW - 127) / 128)
        for block in self.blocks[: self.num_middle]:
            x_BCHW = block(x_BCHW)
        return x_BCHW

    def last(self, middle_BCHW: Tensor) -> Tensor:
        """What follows `middle`: (B, 320, H/32, W/32)."""
        for block in self.blocks[self.num_middle :]:
            middle_BCHW = block(middle_BCHW)
        return middle_BCHW


# Of each block: expanded channels, output channels, kernel size, stride, channels of the squeeze (0: none).
_PLACE_BLOCKS = (
    (16, 16, 3, 1, 0),
    *((64, 24, 3, 2, 0), (72, 24, 3, 1, 0)),
    *((72, 32, 5, 2, 24), (96, 32, 5, 1, 24), (96, 32, 5, 1, 24)),
    *((192, 64, 3, 2, 0), (160, 64, 3, 1, 0), (144, 64, 3, 1, 0), (144, 64, 3, 1, 0)),
    *((384, 88, 3, 1, 96), (528, 88, 3, 1, 136)),
    *((528, 120, 5, 2, 136), (720, 120, 5, 1, 184), (720, 120, 5, 1, 184)),
)
_PLAIN_BLOCKS = 6  # the first ones use ReLU, the others hard-swish


class Lateral(nn.Module):
    """From a level of the backbone into the neck: 1x1, 5x5 of each channel, 1x1."""

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.reduce = Convolution(inputs, inner, activation=nn.functional.relu)
        self.filter = Convolution(inner, inner, 5, depthwise=True, bias=False)
        self.project = Convolution(inner, outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        return self.project(self.filter(self.reduce(x_BCHW)))


class Upsample(nn.Module):
    """From one level of the neck to the next finer one: a 3x3 and a 5x5 branch, added, then doubled in size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.filter3 = Convolution(inputs, inputs, 3, depthwise=True, bias=False)
        self.project3 = Convolution(inputs, outputs)
        self.filter5 = Convolution(inputs, inputs, 5, depthwise=True, bias=False)
        self.project5 = Convolution(inputs, outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', 2H, 2W)."""
        x_BCHW = self.project3(self.filter3(x_BCHW)) + self.project5(self.filter5(x_BCHW))
        return _doubled(_doubled(x_BCHW).transpose(-1, -2)).transpose(-1, -2)


def _doubled(x: Tensor) -> Tensor:
    # TensorFlow's first bilinear resize: every other sample is a copy, those between are means; the last repeats.
    following = torch.cat([x[..., 1:], x[..., -1:]], dim=-1)
    return torch.stack([x, (x + following) / 2], dim=-1).flatten(-2)


class CenterNet(nn.Module):
    """CenterNet on MobileNetV3: features, scores of 80 classes and distances to the box's sides, at stride 4."""

    channels, num_classes = 128, 80

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 16, 3, stride=2, activation=nn.functional.hardswish)
        blocks = []
        inputs = 16
        for index, (expanded, outputs, kernel_size, stride, squeeze) in enumerate(_PLACE_BLOCKS):
            activation = nn.functional.relu if index < _PLAIN_BLOCKS else nn.functional.hardswish
            blocks.append(
                InvertedResidual(inputs, expanded, outputs, kernel_size, stride, activation, squeeze=squeeze)
            )
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.last = Convolution(120, 480, activation=nn.functional.hardswish)
        self.lateral4 = Lateral(72, 18, 64)
        self.lateral8 = Lateral(96, 24, 96)
        self.lateral16 = Lateral(88, 22, 128)
        self.from32 = Upsample(480, 128)
        self.from16 = Upsample(256, 96)
        self.from8 = Upsample(192, 64)
        self.gate = SqueezeExcite(128, 32, torch.sigmoid, bias=False)
        self.class_filter = Convolution(128, 128, 3, depthwise=True, bias=False)
        self.class_scores = Convolution(128, self.num_classes)
        self.side_filter = Convolution(128, 128, 3, depthwise=True, bias=False)
        self.side_distances = Convolution(128, 4)

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels 0 to 255 -> features (B, 128, H/4, W/4), class logits (B, 80, ...), distances in pixels (B, 4, ...).

        Distances run from a cell's corner (x * 4, y * 4) to left, top, right and bottom.
        """
        levels = []
        x_BCHW = self.stem(pixels_BCHW)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            expanded_BCHW = block.expand(x_BCHW)
            if index == 3:
                levels.append(self.lateral4(expanded_BCHW))
            elif index == 5:
                levels.append(self.lateral8(expanded_BCHW))
            elif index == 12:
                levels.append(self.lateral16(x_BCHW))
            x_BCHW = block.finish(x_BCHW, expanded_BCHW)
        x_BCHW = self.last(x_BCHW)
        for level, upsample in zip(reversed(levels), (self.from32, self.from16, self.from8), strict=True):
            x_BCHW = nn.functional.relu(torch.cat([level, upsample(x_BCHW)], dim=1))
        features_BCHW = self.gate(x_BCHW)
        scores_BCHW = self.class_scores(self.class_filter(features_BCHW))
        sides_BCHW = 16 * self.side_distances(self.side_filter(features_BCHW))
        return features_BCHW, scores_BCHW, sides_BCHW
