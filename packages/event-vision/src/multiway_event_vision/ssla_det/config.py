"""Sizes of SSLA-Det and the semantics of its read-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

INPUT_FEATURES: Final = 2
"""Of an event: time since the pixel's previous event, and polarity."""


@dataclass(frozen=True)
class SslaDetConfig:
    """The whole network. It fits any sensor size: no weight depends on it.

    A value that cannot work raises ValueError, which `multiway_core.config` reports with the file's name.
    """

    widths: tuple[int, ...] = (12, 24, 48, 96)
    """Features of each level; level l has a stride of 2^l pixels and two layers."""
    num_classes: int = 2
    space_size: int = 3
    """Side k of a space, odd. The very first layer has spaces of one pixel."""
    thinning: int = 4
    """Of a cell's events, one in this many goes on to the next level."""
    readout: Literal["commit-peek", "end-anchored"] = "commit-peek"
    """Which events go on. "commit-peek": every `thinning`-th counted from the first, and at a read-out each cell's
    newest event is taken through the remaining levels without leaving a trace: causal, so all engines agree.
    "end-anchored": counted from a window's last event, as in the released code; only whole windows are evaluated."""
    merge_ties: bool = False
    """Merge events of a cell with the same microsecond when pooling, as the released code does (windows only)."""
    class_names: tuple[str, ...] = ()
    """Of the classes in their order, or none; `names` has something to show in either case."""
    memory_us: int = 0
    """Microseconds of a stream that the policy "auto" lets the network remember at most. 0: without limit."""

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be positive, one for each level, not {self.widths}")
        if self.num_classes < 1 or self.thinning < 1:
            raise ValueError("num_classes and thinning must be at least 1")
        if self.space_size < 1 or self.space_size % 2 == 0:
            raise ValueError(f"space_size must be odd, not {self.space_size}")
        if self.merge_ties and self.readout != "end-anchored":
            raise ValueError('merge_ties needs readout "end-anchored": a stream does not wait for ties')
        if self.memory_us < 0:
            raise ValueError(f"memory_us must be 0 or more, not {self.memory_us}")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class_names for {self.num_classes} classes")

    @property
    def names(self) -> tuple[str, ...]:
        """A name of each class; "class 0" and so on where none were given."""
        return self.class_names or tuple(f"class {number}" for number in range(self.num_classes))

    @property
    def num_levels(self) -> int:
        return len(self.widths)

    @property
    def stride(self) -> int:
        """Pixels along the side of a cell of the grid that the head sees."""
        return 2 ** (self.num_levels - 1)

    def layers(self, level: int) -> tuple[tuple[int, int, int], ...]:
        """(input width, width, side of its spaces) of the layers of a level, in order."""
        width = self.widths[level]
        before = self.widths[level - 1] if level else INPUT_FEATURES
        return (before, width, self.space_size if level else 1), (width, width, self.space_size)

    def frame(self, level: int, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a level's frame on a sensor of this size: halves, rounded up."""
        scale = 2**level
        return -(-height // scale), -(-width // scale)


PRESETS: dict[str, SslaDetConfig] = {
    "ssla-s": SslaDetConfig((12, 24, 48, 96)),
    "ssla-b": SslaDetConfig((16, 32, 64, 128)),
    "ssla-m": SslaDetConfig((24, 48, 96, 192)),
    "ssla-l": SslaDetConfig((32, 64, 128, 256)),
    "ssla-tiny": SslaDetConfig((8, 16, 32, 64)),
}
"""S, B, M and L are the published sizes (Gen1: two classes); tiny is for tests and quick training."""
