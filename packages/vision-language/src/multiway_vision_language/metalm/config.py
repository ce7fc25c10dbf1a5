"""Sizes of MetaLM and its presets (arXiv 2206.06336, sections 3.1 and 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from multiway_core.errors import ConfigError


@dataclass(frozen=True)
class DecoderConfig:
    """The causal decoder, which is the interface: sinusoidal positions, tied output matrix."""

    hidden_size: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    inner_size: int = 4096
    max_positions: int = 2048
    """Trained length in tokens; the table of positions grows past it."""
    deep_norm: bool = False
    """Post-norm blocks with DeepNorm (the language-only model) instead of pre-norm ones (GPT-2's)."""
    norm_eps: float = 1e-5
    dropout: float = 0.1


@dataclass(frozen=True)
class EncoderConfig:
    """A bidirectional encoder of spans: text alone, or a picture with the text behind it."""

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    inner_size: int = 3072
    max_text: int = 512
    """Text tokens that a span may have."""
    image_size: int | None = 224
    """Pixels of a picture's side; None: the encoder reads no pictures."""
    patch_size: int = 16
    num_channels: int = 3
    fusion_layers: int = 2
    """The last layers, in which the tokens of a span with a picture and text share the expert "pair"."""
    relative_buckets: int = 32
    relative_distance: int = 128
    norm_eps: float = 1e-5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size % self.patch_size:
            raise ConfigError(
                f"encoder: image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )

    @property
    def num_patches(self) -> int:
        """Image tokens of a picture."""
        return 0 if self.image_size is None else (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class MetaLMConfig:
    """The whole model."""

    vocab_size: int = 50_260
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    connector: Literal["linear", "feed_forward"] = "feed_forward"
    """How encoder outputs come into the decoder: one matrix, or three with GELU between them."""


METALM_LANGUAGE = MetaLMConfig(
    decoder=DecoderConfig(hidden_size=2048, num_heads=32, inner_size=8192, deep_norm=True, dropout=0.0),
    encoder=EncoderConfig(hidden_size=1024, num_layers=24, num_heads=16, inner_size=4096, image_size=None),
    connector="linear",
)
"""The language-only model: decoder of 1.3 B, encoder of about 0.37 B parameters."""

METALM_VISION_LANGUAGE = MetaLMConfig()
"""The vision-language model: decoder of 353 M parameters, encoder of the size of VLMo-base."""

PRESETS = {"metalm-language": METALM_LANGUAGE, "metalm-vision-language": METALM_VISION_LANGUAGE}
