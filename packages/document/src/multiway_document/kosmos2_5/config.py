"""Sizes of KOSMOS-2.5 and its presets (arXiv 2309.11419, table 9)."""

from __future__ import annotations

from dataclasses import dataclass, field


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
class TextConfig:
    """The Magneto-style decoder (sub-LN in the feed-forward network only)."""

    hidden_size: int = 1536
    num_layers: int = 24
    num_heads: int = 16
    inner_size: int = 6144
    vocab_size: int = 108_481
    max_positions: int = 4096
    """Trained length in tokens, image included; the sinusoidal table grows past it."""
    norm_eps: float = 1e-5
    dropout: float = 0.1
    scale_embedding: bool = True


@dataclass(frozen=True)
class TokenConfig:
    """Where the ids of special and location tokens lie; text tokens come first, behind the four control tokens."""

    num_text_tokens: int = 100_277
    num_locations: int = 4096
    location_step: int = 1
    """Pixels of the resized image a location token stands for."""

    bos: int = 0
    pad: int = 1
    eos: int = 2
    unknown: int = 3

    @property
    def first_text(self) -> int:
        """Id of text token 0."""
        return 4

    @property
    def mask(self) -> int:
        """``<mask>``, the first id behind the text tokens."""
        return self.first_text + self.num_text_tokens

    @property
    def ocr(self) -> int:
        """``<ocr>``: read text lines with boxes."""
        return self.mask + 1

    @property
    def image(self) -> int:
        """``<image>``: the image begins."""
        return self.mask + 2

    @property
    def image_end(self) -> int:
        """``</image>``."""
        return self.mask + 3

    @property
    def chunk_end(self) -> int:
        """``</chunk>``, unused by the published model."""
        return self.mask + 4

    @property
    def box(self) -> int:
        """``<bbox>``: a line's box begins."""
        return self.mask + 5

    @property
    def box_end(self) -> int:
        """``</bbox>``."""
        return self.mask + 6

    @property
    def markdown(self) -> int:
        """``<md>``: write markdown (and answer questions)."""
        return self.mask + 7

    @property
    def first_location(self) -> int:
        """``<x_0>``; ``<y_0>`` is the next id, and so on in turn."""
        return self.mask + 8

    @property
    def vocab_size(self) -> int:
        """All ids."""
        return self.first_location + 2 * self.num_locations

    def x(self, index: int) -> int:
        """Id of ``<x_index>``."""
        return self.first_location + 2 * index

    def y(self, index: int) -> int:
        """Id of ``<y_index>``."""
        return self.first_location + 2 * index + 1


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
