"""Sizes of the fusion network."""

from __future__ import annotations

from dataclasses import dataclass

from multiway_core.errors import ConfigError


@dataclass(frozen=True)
class FusionConfig:
    """widths: channels of the U-Net's levels, from half the frames' resolution on. fine: at full resolution."""

    widths: tuple[int, ...]
    fine: int

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1 or self.fine < 1:
            raise ConfigError(
                f"widths {self.widths}, fine {self.fine}; expected 2 or more levels, all of them positive"
            )


PRESETS = {
    "small": FusionConfig(widths=(24, 40, 64), fine=8),
    "tiny": FusionConfig(widths=(6, 8), fine=4),  # for tests
}
