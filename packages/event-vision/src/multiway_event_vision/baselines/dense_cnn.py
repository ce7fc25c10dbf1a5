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
from multiway_event_vision.ssla_det.head import YoloxHead
from multiway_event_vision.ssla_det.inputs import EventBatch
from multiway_event_vision.ssla_det.model import SslaDetOutputs


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


class DenseCnn(nn.Module):
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

    def read_outs(self, batch: EventBatch, until: Sequence[int | Tensor]) -> list[SslaDetOutputs]:
        """Predictions at each of the times `until`: int microseconds, or int64 [B] with one time for each stream.

        A read-out sees the events with until - window < t <= until. It forgets, so the read-outs are one batch.
        """
        ends_RB = torch.stack(
            [torch.as_tensor(time, device=batch.t_N.device).expand(batch.streams) for time in until]
        )
        counts = [event_counts(batch, end_B, self.config) for end_B in ends_RB]
        images_BCHW = torch.cat(counts).to(self.head.classes.weight.dtype)
        grid_BDHW = self.stages(images_BCHW.log1p().contiguous(memory_format=torch.channels_last))
        outputs = self.head(grid_BDHW)
        parts = zip(
            *(x.split(batch.streams) for x in (outputs.classes, outputs.boxes, outputs.objectness)),
            grid_BDHW.split(batch.streams),
            strict=True,
        )
        return [
            SslaDetOutputs(type(outputs)(*head), grid, torch.ones_like(grid[:, 0], dtype=torch.bool))
            for *head, grid in parts
        ]

    def forward(self, batch: EventBatch) -> SslaDetOutputs:
        """Predictions at each stream's last event."""
        end_B = torch.zeros(batch.streams, dtype=torch.int64, device=batch.t_N.device)
        end_B = end_B.scatter_reduce(0, batch.stream_N, batch.t_N, "amax")
        return self.read_outs(batch, [end_B])[0]


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
