"""Sizes of the network."""

from __future__ import annotations

from dataclasses import dataclass

from multiway_core.errors import ConfigError


@dataclass(frozen=True)
class UNetConfig:
    """A U-Net: `widths` of its levels from the finest on, `kernels` of their convolutions; its last one has none.

    The first level keeps the resolution, every further one halves it.
    """

    widths: tuple[int, ...]
    kernels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or len(self.widths) != len(self.kernels):
            raise ConfigError(
                f"levels of widths {self.widths} and kernels {self.kernels}; expected 2 or more of both"
            )
        if min(self.widths) < 1 or any(kernel % 2 == 0 or kernel < 1 for kernel in self.kernels):
            raise ConfigError(
                f"widths {self.widths}, kernels {self.kernels}; expected positive ones, kernels odd"
            )


@dataclass(frozen=True)
class TimeReplayerConfig:
    """The whole network.

    bins: of the voxel grids. condition: flow networks see the logarithm of the counts, which differs less between
    sensors, and two more channels: how many events a pixel had, and when on average. Where an edge goes over pixels,
    the slope of that time is the direction of motion; from the bins alone it takes long to learn.
    flow_halvings, refinement_halvings: convolutions of stride 2 before the U-Nets; flows and visibility are scaled up
    bilinearly, frames are warped at their own resolution.
    """

    flow: UNetConfig
    refinement: UNetConfig
    bins: int = 5
    condition: bool = False
    flow_halvings: int = 0
    refinement_halvings: int = 0

    def __post_init__(self) -> None:
        if self.bins < 2 or min(self.flow_halvings, self.refinement_halvings) < 0:
            raise ConfigError(
                f"{self.bins} bins, {self.flow_halvings} and {self.refinement_halvings} halvings; "
                "expected 2, 0, 0 or more"
            )


# Jiang et al., "Super SloMo" (2018), appendix: 19.8 million parameters each.
_SUPER_SLOMO = UNetConfig(widths=(32, 64, 128, 256, 512, 512), kernels=(7, 5, 3, 3, 3, 3))

FULL = TimeReplayerConfig(flow=_SUPER_SLOMO, refinement=_SUPER_SLOMO)
SMALL = TimeReplayerConfig(
    flow=UNetConfig(widths=(32, 48, 80, 128), kernels=(3, 3, 3, 3)),
    refinement=UNetConfig(widths=(16, 24, 48, 64), kernels=(3, 3, 3, 3)),
    condition=True,
    flow_halvings=2,
    refinement_halvings=1,
)
TINY = TimeReplayerConfig(  # for tests
    flow=UNetConfig(widths=(4, 6), kernels=(3, 3)),
    refinement=UNetConfig(widths=(4, 6), kernels=(3, 3)),
    condition=True,
    flow_halvings=1,
    refinement_halvings=1,
)
PRESETS = {"full": FULL, "small": SMALL, "tiny": TINY}
