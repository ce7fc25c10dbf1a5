"""Sizes of KOSMOS-2.5 and its presets (arXiv 2309.11419, table 9)."""

from __future__ import annotations

from dataclasses import dataclass, field

from multiway_blocks.multimodal_config import DecoderConfig, TokenLayout, token


@dataclass(frozen=True)
class VisionConfig:
    """The Pix2Struct-style encoder."""

    hidden_size: int = 1536
    num_layers: int = 18
    num_heads: int = 24
    head_dim: int = 64
    inner_size: int = 3968
    patch_size: int = 16
    num_channels: int = 3
    max_patches: int = 4096
    """Every image is declared to have this many patches; the rest is padding, which takes part in the resampler.
    The row and column tables have as many entries."""
    norm_eps: float = 1e-6

    @property
    def patch_dim(self) -> int:
        """Numbers in one flattened patch."""
        return self.patch_size * self.patch_size * self.num_channels


@dataclass(frozen=True)
class TextConfig(DecoderConfig):
    """The Magneto-style decoder (sub-LN in the feed-forward network only)."""

    hidden_size: int = 1536
    num_heads: int = 16
    inner_size: int = 6144
    vocab_size: int = 108_481
    max_positions: int = 4096


@dataclass(frozen=True)
class TokenConfig(TokenLayout):
    """Where the ids of special and location tokens lie."""

    num_text_tokens: int = 100_277
    num_locations: int = 4096
    location_step: int = 1
    """Pixels of the resized image a location token stands for."""

    ocr = token(1)
    """``<ocr>``: read text lines with boxes."""
    box = token(5)
    """``<bbox>``: a line's box begins."""
    box_end = token(6)
    """``</bbox>``."""
    markdown = token(7)
    """``<md>``: write markdown (and answer questions)."""
    first_location = token(8)
    """``<x_0>``; ``<y_0>`` is the next id, and so on in turn."""

    @property
    def vocab_size(self) -> int:
        """All ids."""
        return self.x(self.num_locations)

    def x(self, index: int) -> int:
        """Id of ``<x_index>``."""
        return self.mask + 8 + 2 * index

    def y(self, index: int) -> int:
        """Id of ``<y_index>``."""
        return self.x(index) + 1


@dataclass(frozen=True)
class Kosmos25Config:
    """The whole model."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tokens: TokenConfig = field(default_factory=TokenConfig)
    num_queries: int = 2048
    """Image embeddings that the resampler makes of the patches."""


KOSMOS_2_5 = Kosmos25Config()
"""``microsoft/kosmos-2.5`` and ``microsoft/kosmos-2.5-chat``."""

_MINI_TOKENS = TokenConfig(num_text_tokens=768, num_locations=512, location_step=2)
KOSMOS_2_5_MINI = Kosmos25Config(
    vision=VisionConfig(
        hidden_size=256,
        num_layers=6,
        num_heads=4,
        inner_size=704,
        max_patches=512,
    ),
    text=TextConfig(
        hidden_size=256,
        num_layers=4,
        num_heads=4,
        inner_size=1024,
        vocab_size=_MINI_TOKENS.vocab_size,
        max_positions=2048,
        dropout=0.0,
    ),
    tokens=_MINI_TOKENS,
    num_queries=64,
)
"""The bundled reader: the same architecture, small enough to be trained and run on a CPU."""

PRESETS = {"kosmos-2.5": KOSMOS_2_5, "kosmos-2.5-mini": KOSMOS_2_5_MINI}
