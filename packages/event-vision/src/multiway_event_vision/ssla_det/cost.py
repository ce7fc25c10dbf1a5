"""Floating-point operations of an event: as the released code counts them, and of the folded layers that run here.

A product of a vector with an (m, n) matrix is m (2n - 1) operations; a sigmoid 4 an element, LayerNorm 8 d + 1, SiLU 5;
index work, sorting and suppression are free, batch norm is folded into the convolution before it. An event's cost
depends on how many levels process it and nothing else; spaces outside of the frame are counted as if they were there.

The mean hides that a box is fresh only behind a peek, so peeks are counted beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.ssla_det.config import SslaDetConfig
from multiway_event_vision.ssla_det.engines.engine import Work

LayerFlops = Callable[..., int]
"""As `layer_flops`."""


@dataclass(frozen=True)
class Cost:
    """Operations of a stream, in FLOPs an event; all NaN without events."""

    events: int
    mean: float
    """Of the state updates of an event."""
    p50: float
    p99: float
    max: float
    peeks: float
    """Of all peeks of all read-outs, shared out over the events."""
    head: float
    """Of the head, as often as it ran, shared out over the events."""
    worst: float
    """Of an event that passes every level, with the head: what a fresh box after each event would cost."""

    def times(self, engines: float) -> Cost:
        """The cost of an event that several engines take in, as if they did alike with it."""
        names = ("mean", "p50", "p99", "max", "peeks", "head", "worst")
        events = round(self.events / engines)
        return Cost(events, **{name: getattr(self, name) * engines for name in names})


def layer_flops(inputs: int, width: int, size: int, *, folded: bool = True) -> int:
    """Operations of one event in one layer."""
    c, d, K = inputs, width, size * size
    residual = d * (2 * c - 1) if c != d else 0
    scatter = 3 * d * (2 * c - 1) if folded else d * (2 * c - 1) + 3 * d * (2 * d - 1)
    gather = d * (2 * d - 1) if folded else 2 * d * (2 * d - 1)
    sigmoid_scan_product_sum = 4 * d + 2 * d + d + d
    return K * (scatter + sigmoid_scan_product_sum + gather) + residual + d + 8 * d + 1


def level_flops(
    config: SslaDetConfig, *, folded: bool = True, layer_flops: LayerFlops = layer_flops
) -> NDArray[np.int64]:
    """[level] operations of one event in the layers of a level; a baseline has `layer_flops` of its own."""
    return np.array(
        [
            sum(layer_flops(*sizes, folded=folded) for sizes in config.layers(n))
            for n in range(config.num_levels)
        ]
    )


def head_flops(width: int, num_classes: int) -> int:
    """Operations of the head for one cell."""
    d = width
    return 2 * (2 * d * d + 5 * d) + 2 * d * num_classes + 8 * d + 2 * d


def thinned_flops(config: SslaDetConfig, *, folded: bool = True) -> float:
    """Mean operations of an event of a long stream: of each level one in `thinning` goes on. Head included."""
    share = float(config.thinning) ** -np.arange(config.num_levels)
    return float(share @ level_flops(config, folded=folded)) + share[-1] * head_flops(
        config.widths[-1], config.num_classes
    )


def cost_of(
    config: SslaDetConfig, work: Work, *, folded: bool = True, layer_flops: LayerFlops = layer_flops
) -> Cost:
    """What an engine's work so far cost (`engine.work`)."""
    levels = level_flops(config, folded=folded, layer_flops=layer_flops)
    head = head_flops(config.widths[-1], config.num_classes)
    of_depth = levels.cumsum()  # strictly ascending, so percentiles follow from counts
    events = int(work.updated.sum())
    worst = float(of_depth[-1] + head)
    if events == 0:
        nan = float("nan")
        return Cost(0, nan, nan, nan, nan, nan, nan, worst)
    reached = work.updated.cumsum()

    def percentile(share: float) -> float:
        return float(of_depth[np.searchsorted(reached, share * events)])

    remaining = levels[::-1].cumsum()[::-1]  # of a peek that begins at a level
    return Cost(
        events=events,
        mean=float(work.updated @ of_depth) / events,
        p50=percentile(0.50),
        p99=percentile(0.99),
        max=float(of_depth[np.flatnonzero(work.updated)[-1]]),
        peeks=float(work.peeked @ remaining) / events,
        head=work.predicted * head / events,
        worst=worst,
    )
