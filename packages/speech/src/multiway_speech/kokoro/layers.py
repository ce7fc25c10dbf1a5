"""Layers of Kokoro's decoder and prosody predictor: convolutions between normalizations that the style sets.

Sounds are (1, C, 1, T) with channels last in memory: oneDNN convolves them three to eight times as fast as (1, C, T).

Shape suffixes: B batch (1), C channels, T frames, S style.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Convolution(nn.Conv2d):
    """A convolution over T of (B, C, 1, T); ``stride`` 1 keeps the length."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        dilation: int = 1,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = True,
    ) -> None:
        around = dilation * (kernel - 1) // 2 if padding is None else padding
        super().__init__(
            inputs,
            outputs,
            (1, kernel),
            stride=(1, stride),
            padding=(0, around),
            dilation=(1, dilation),
            bias=bias,
        )


class Upsampling(nn.ConvTranspose2d):
    """A transposed convolution over T of (B, C, 1, T)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        *,
        padding: int,
        extra: int = 0,
        groups: int = 1,
    ) -> None:
        super().__init__(
            inputs, outputs, (1, kernel), stride=(1, stride), padding=(0, padding), output_padding=(0, extra),
            groups=groups,
        )  # fmt: skip


class StyleNorm(nn.Module):
    """Instance normalization with scale and shift from the style (AdaIN, Huang and Belongie 2017)."""

    eps = 1e-5

    def __init__(self, channels: int, style_size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style_size, 2 * channels)

    def forward(self, x_BC1T: Tensor, style_BS: Tensor) -> Tensor:
        gamma_BC, beta_BC = self.fc(style_BS).float().chunk(2, dim=1)
        # Of a single recording, batch normalization in training is instance normalization, in one pass.
        return functional.batch_norm(
            x_BC1T, None, None, 1 + gamma_BC[0], beta_BC[0], training=True, eps=self.eps
        )


class StyleBlock(nn.Module):
    """Two convolutions behind normalizations and leaky ReLUs, beside a shortcut; ``upsample`` doubles the length."""

    def __init__(self, inputs: int, outputs: int, style_size: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = StyleNorm(inputs, style_size), StyleNorm(outputs, style_size)
        self.conv1, self.conv2 = Convolution(inputs, outputs, 3), Convolution(outputs, outputs, 3)
        self.pool = Upsampling(inputs, inputs, 3, 2, padding=1, extra=1, groups=inputs) if upsample else None
        self.conv1x1 = Convolution(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x_BC1T: Tensor, style_BS: Tensor) -> Tensor:
        y = functional.leaky_relu(self.norm1(x_BC1T, style_BS), 0.2)
        if self.pool is not None:
            y = self.pool(y)
            x_BC1T = x_BC1T.repeat_interleave(2, dim=3)
        y = functional.leaky_relu(self.norm2(self.conv1(y), style_BS), 0.2)
        y = self.conv2(y)
        if self.conv1x1 is not None:
            x_BC1T = self.conv1x1(x_BC1T)
        return (y + x_BC1T) * 2**-0.5


class Snake(nn.Module):
    """``x + sin(a x)^2 / a`` (Ziyin et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x_BC1T: Tensor) -> Tensor:
        alpha = self.alpha[:, None, None]
        return torch.addcmul(x_BC1T, torch.sin(alpha * x_BC1T).square_(), 1 / alpha)


class SnakeBlock(nn.Module):
    """Pairs of convolutions, the first of each dilated, each pair beside a shortcut (HiFi-GAN, Kong et al. 2020)."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int], style_size: int) -> None:
        super().__init__()
        count = len(dilations)
        self.convs1 = nn.ModuleList(Convolution(channels, channels, kernel, dilation=d) for d in dilations)
        self.convs2 = nn.ModuleList(Convolution(channels, channels, kernel) for _ in dilations)
        self.adain1 = nn.ModuleList(StyleNorm(channels, style_size) for _ in range(count))
        self.adain2 = nn.ModuleList(StyleNorm(channels, style_size) for _ in range(count))
        self.snake1 = nn.ModuleList(Snake(channels) for _ in range(count))
        self.snake2 = nn.ModuleList(Snake(channels) for _ in range(count))

    def forward(self, x_BC1T: Tensor, style_BS: Tensor) -> Tensor:
        parts = (self.adain1, self.snake1, self.convs1, self.adain2, self.snake2, self.convs2)
        for norm1, snake1, conv1, norm2, snake2, conv2 in zip(*parts, strict=True):
            y = conv1(snake1(norm1(x_BC1T, style_BS)))
            x_BC1T = x_BC1T + conv2(snake2(norm2(y, style_BS)))
        return x_BC1T
