"""The U-Net of all three networks (Jiang et al., "Super SloMo", 2018, figure 4).

Shape letters: B batch, C channels, H W rows and columns.
"""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, pad

from multiway_event_vision.time_replayer.config import UNetConfig

SLOPE = 0.1  # of the leaky rectifiers


def convolution(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution in front of a rectifier; a kernel of 4 with stride 2 halves the resolution."""
    module = nn.Conv2d(channels, width, kernel, stride, padding=(kernel - 1) // 2)
    # PyTorch's own start is 2.4 times smaller, layer after layer: the coarse levels would hear nothing.
    nn.init.kaiming_normal_(module.weight, SLOPE)
    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return module


class _Pair(nn.Module):
    """Two convolutions, each with its rectifier."""

    def __init__(self, channels: int, width: int, kernel: int, second_in: int | None = None) -> None:
        super().__init__()
        self.first = convolution(channels, width, kernel)
        self.second = convolution(second_in or width, width, kernel)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return leaky_relu(self.second(leaky_relu(self.first(x_BCHW), SLOPE)), SLOPE)


class _Up(_Pair):
    """Twice the resolution, a convolution, and one more together with what the encoder had there."""

    def __init__(self, channels: int, width: int, skip: int) -> None:
        super().__init__(channels, width, 3, second_in=width + skip)

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:  # type: ignore[override]
        x_BCHW = interpolate(x_BCHW, scale_factor=2.0, mode="bilinear", align_corners=False)
        x_BCHW = leaky_relu(self.first(x_BCHW), SLOPE)
        return leaky_relu(self.second(cat((x_BCHW, skip_BCHW), 1)), SLOPE)


class UNet(nn.Module):
    """(B, channels, H, W) -> (B, outputs, H, W), H and W of any size; zero at the start."""

    def __init__(self, channels: int, outputs: int, config: UNetConfig) -> None:
        super().__init__()
        widths, kernels = config.widths, config.kernels
        self.start = _Pair(channels, widths[0], kernels[0])
        self.down = nn.ModuleList(
            _Pair(before, width, kernel)
            for before, width, kernel in zip(widths[:-1], widths[1:], kernels[1:], strict=True)
        )
        self.up = nn.ModuleList(
            _Up(below, width, width) for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.end = nn.Conv2d(widths[0], outputs, 3, padding=1)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[-2:]
        block = 2 ** len(self.down)
        x_BCHW = pad(x_BCHW, (0, -width % block, 0, -height % block), mode="replicate")
        x_BCHW = self.start(x_BCHW)
        skips = [x_BCHW]
        for down in self.down:
            x_BCHW = down(avg_pool2d(x_BCHW, 2))
            skips.append(x_BCHW)
        skips.pop()
        for up in self.up:
            x_BCHW = up(x_BCHW, skips.pop())
        return self.end(x_BCHW)[..., :height, :width]
