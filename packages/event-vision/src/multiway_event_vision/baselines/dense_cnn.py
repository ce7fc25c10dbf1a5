"""The dense baseline: a window's events counted by pixel and time, a small convolutional network, the YOLOX head.

    events of the last 100 ms -> 5 bins of time x 2 polarities, log(1 + count)
      three stages of two 3x3 convolutions, the first of stride 2 -> grid of stride 8 -> head

It sees all places at once and forgets what is older than its window, and a new event costs a whole forward pass.

Legend: N events, B streams, C channels, D width, H, W pixels or cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from multiway_event_vision.ssla_det.cost import head_flops
from multiway_event_vision.ssla_det.detector import Detector, SslaDetOutputs
from multiway_event_vision.ssla_det.head import YoloxHead
from multiway_event_vision.ssla_det.inputs import EventBatch


@dataclass(frozen=True)
class DenseCnnConfig:
    """The whole network. A value that cannot work raises ValueError, which `multiway_core.config` reports."""

    widths: tuple[int, ...] = (24, 48, 96)
    """Channels of each stage; every stage halves height and width."""
    num_classes: int = 2
    bins: int = 5
    """Of time, of equal length."""
    window_us: int = 100_000
    """What it looks back on at a read-out."""

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be positive, one for each stage, not {self.widths}")
        if self.num_classes < 1 or self.bins < 1 or self.window_us < self.bins:
            raise ValueError("num_classes and bins must be at least 1, and a bin at least a microsecond long")

    @property
    def stride(self) -> int:
        """Pixels along the side of a cell of the grid that the head sees."""
        return 2 ** len(self.widths)


class Block(nn.Module):
    """3x3 convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return silu(self.norm(self.convolution(x_BCHW)))


class DenseCnn(Detector):
    """The network; it takes the batches that SSLA-Det takes."""

    def __init__(self, config: DenseCnnConfig) -> None:
        super().__init__()
        self.config = config
        inputs = (2 * config.bins, *config.widths)
        self.stages = nn.Sequential(
            *(
                block
                for before, width in zip(inputs, config.widths, strict=False)
                for block in (Block(before, width, 2), Block(width, width, 1))
            )
        )
        self.head = YoloxHead(config.widths[-1], config.num_classes)

    @property
    def stride(self) -> int:
        return self.config.stride

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    def read_outs(self, slices: Sequence[EventBatch]) -> SslaDetOutputs:
        """As :meth:`Detector.read_outs`; a window ends with the newest event of its stream. All cells are active.

        Windows do not know of each other, so all read-outs are one batch of pictures.
        """
        ends_B = slices[0].t_N.new_zeros(slices[0].streams)
        counts = []
        for number, batch in enumerate(slices):
            ends_B = ends_B.scatter_reduce(0, batch.stream_N, batch.t_N, "amax")
            parts = [event_counts(part, ends_B, self.config) for part in slices[: number + 1]]
            counts.append(torch.stack(parts).sum(dim=0))
        return self.predict(torch.cat(counts))

    def forward(self, batch: EventBatch) -> SslaDetOutputs:
        """Predictions at the end of each stream of the batch."""
        return self.read_outs([batch])

    def predict(self, counts_BCHW: Tensor) -> SslaDetOutputs:
        """Predictions from the :func:`event_counts` of windows."""
        images_BCHW = counts_BCHW.to(self.head.classes.weight.dtype).log1p()
        grid_BDHW = self.stages(images_BCHW.contiguous(memory_format=torch.channels_last))
        active_BHW = torch.ones_like(grid_BDHW[:, 0], dtype=torch.bool)
        return SslaDetOutputs(self.head(grid_BDHW), grid_BDHW, active_BHW)


def build(config: DenseCnnConfig, *, seed: int = 0) -> DenseCnn:
    """A network with random parameters that depend on the seed alone; PyTorch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DenseCnn(config)


def event_counts(batch: EventBatch, until_B: Tensor, config: DenseCnnConfig) -> Tensor:
    """(B, 2 · bins, H, W) int64: events of each bin, darker ones first, of the window that ends with `until_B`."""
    age_N = until_B[batch.stream_N] - batch.t_N
    seen = ((age_N >= 0) & (age_N < config.window_us)).nonzero().squeeze(1)
    bin_M = (config.window_us - 1 - age_N[seen]) * config.bins // config.window_us
    channel_M = bin_M * 2 + (batch.x_NC[seen, 1] > 0)
    pixels = batch.height * batch.width
    place_M = (batch.stream_N[seen] * 2 * config.bins + channel_M) * pixels + batch.pixel_N[seen]
    shape = (batch.streams, 2 * config.bins, batch.height, batch.width)
    return torch.bincount(place_M, minlength=batch.streams * 2 * config.bins * pixels).view(shape)


def forward_flops(config: DenseCnnConfig, height: int, width: int) -> int:
    """Operations of one forward pass, head included: what a box that is fresh after a new event costs.

    Counted as in `ssla_det.cost`: borders as if they were inside, batch norm folded, SiLU 5 an element.
    """
    total, before = 0, 2 * config.bins
    for out in config.widths:
        height, width = -(-height // 2), -(-width // 2)
        for inputs in (before, out):
            total += height * width * out * (2 * 9 * inputs - 1 + 1 + 5)  # folded norm: a bias
        before = out
    return total + height * width * head_flops(config.widths[-1], config.num_classes)
