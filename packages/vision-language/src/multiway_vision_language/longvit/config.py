"""Sizes of LongViT (arXiv 2312.03558), and which segments its dilated attention has at which number of patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from multiway_blocks.dilated_pattern import DilatedPattern
from multiway_core.errors import InputError

SEGMENTS: dict[int, tuple[int, ...]] = {
    1_024: (64, 128, 256, 512, 1024),
    16_384: (1024, 2048, 4096, 8192, 16_384),
    65_536: (1024, 4096, 8192, 16_384, 65_536),
    262_144: (1024, 4096, 16_384, 65_536, 262_144),
    1_048_576: (1024, 4096, 32_768, 262_144, 1_048_576),
}
"""Patches of a picture of 1,024, 4,096, 8,192, 16,384 and 32,768 pixels a side -> segment lengths (released code)."""
DILATIONS = (1, 2, 4, 8, 16)
MAX_SIDE = 65_536
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue, with which pictures are normalised."""

Task = Literal["embed", "classify", "survival"]


@dataclass(frozen=True)
class LongViTConfig:
    """One model. An InputError says which sizes do not go together.

    Attributes:
        image_size: side of the square picture that the table of positions was made for, in pixels.
        input_size: side to which a slide is resized where nothing else is asked for.
        task: what the head gives: nothing, a logit a class, or a logit of the hazard of each time interval.
        labels: names of the classes, in order of the logits.
        time_bins: upper ends of the time intervals but the last one's, which is open.
        strict: whether zeros that fill up the last segment take part as keys, as in the released code.
        drop_path: of the last layer; it rises linearly from 0.
        norm_eps: of the layers' norms (the head's is PyTorch's default, 1e-5).
    """

    hidden_size: int = 384
    num_layers: int = 12
    num_heads: int = 16
    inner_size: int = 1536
    patch_size: int = 32
    image_size: int = 1024
    input_size: int = 1024
    task: Task = "embed"
    labels: tuple[str, ...] = ()
    time_bins: tuple[float, ...] = ()
    strict: bool = True
    drop_path: float = 0.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_heads", "inner_size", "patch_size"):
            if not 1 <= getattr(self, name) <= MAX_SIDE:
                raise InputError(f"LongViT {name} must be 1 to {MAX_SIDE}, not {getattr(self, name)}")
        for name in ("image_size", "input_size"):
            self.check_side(getattr(self, name), name)
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"LongViT num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}"
            )
        if not 0 <= self.drop_path < 1:
            raise InputError(f"LongViT drop_path must be at least 0 and below 1, not {self.drop_path}")
        if self.task == "classify" and len(set(self.labels)) < max(2, len(self.labels)):
            raise InputError(f"LongViT needs two or more different labels, got {list(self.labels)}")
        if self.task == "survival" and (
            not self.time_bins or list(self.time_bins) != sorted(set(self.time_bins))
        ):
            raise InputError(f"LongViT needs increasing time_bins, got {list(self.time_bins)}")

    def check_side(self, side: int, name: str = "size") -> None:
        """Raise InputError unless a square picture of this side is a whole number of patches."""
        if not self.patch_size <= side <= MAX_SIDE or side % self.patch_size:
            raise InputError(
                f"LongViT {name} {side}: expected a multiple of {self.patch_size} from {self.patch_size} to {MAX_SIDE}"
            )

    @property
    def num_outputs(self) -> int:
        """Logits of the head."""
        if self.task == "survival":
            return len(self.time_bins) + 1
        return len(self.labels) if self.task == "classify" else 0

    def pattern(self, num_tokens: int) -> DilatedPattern:
        """Who sees whom among so many patches: the row of the table for the largest size that is not above theirs."""
        fitting = [size for size in SEGMENTS if size <= num_tokens]
        lengths = SEGMENTS[max(fitting, default=min(SEGMENTS))]
        return DilatedPattern(tuple(zip(lengths, DILATIONS, strict=True)), mask_padding=not self.strict)


LONGVIT_SMALL = LongViTConfig()
"""LongViT-S: 22 million parameters."""
LONGVIT_TISSUE = LongViTConfig(
    hidden_size=64, num_layers=2, num_heads=4, inner_size=256, patch_size=16, image_size=192, input_size=192
)
"""Of the bundled models, which one core trains in minutes."""

PRESETS = {"longvit-small": LONGVIT_SMALL, "longvit-tissue": LONGVIT_TISSUE}
