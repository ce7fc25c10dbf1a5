"""Sizes of Kosmos-2 and its presets (arXiv 2306.14824, section 3.3 and the published checkpoint)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from multiway_blocks.multimodal_config import DecoderConfig, TokenLayout, token

from multiway_vision_language.locations import LocationGrid


@dataclass(frozen=True)
class VisionConfig:
    """The CLIP tower; by default ViT-L/14 at 224 pixels."""

    hidden_size: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    inner_size: int = 4096
    patch_size: int = 14
    image_size: int = 224
    """Side in pixels of the square that every picture is warped to."""
    num_channels: int = 3
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class TextConfig(DecoderConfig):
    """The Magneto decoder (sub-LN in attention and feed-forward network)."""

    position_code: Literal["sinusoidal", "xpos"] = "sinusoidal"
    """Added to the embeddings (the published Kosmos-2), or xPos inside the attention (Kosmos-1)."""


@dataclass(frozen=True)
class TokenConfig(TokenLayout):
    """Where the ids of tags and location tokens lie."""

    grid_size: int = 32
    """Location cells a side; there are as many location tokens as cells."""

    document_end = token(1)
    """``</doc>``."""
    line_end = token(5)
    """``</line>``."""
    phrase = token(6)
    """``<phrase>``: words that have a place begin."""
    phrase_end = token(7)
    """``</phrase>``."""
    object = token(8)
    """``<object>``: the boxes of the phrase before it begin."""
    object_end = token(9)
    """``</object>``."""
    delimiter = token(10)
    """``</delimiter_of_multi_objects/>``: another box of the same phrase follows."""
    grounding = token(11)
    """``<grounding>``: what follows is written with places."""
    first_location = token(12)
    """``<patch_index_0000>``."""

    @property
    def grid(self) -> LocationGrid:
        """The cells that location tokens stand for."""
        return LocationGrid(self.grid_size)

    @property
    def num_locations(self) -> int:
        """Location tokens."""
        return self.grid_size**2

    @property
    def vocab_size(self) -> int:
        """All ids."""
        return self.mask + 12 + self.num_locations

    def is_location(self, token: int) -> bool:
        """Whether an id is a location token."""
        return self.first_location <= token < self.vocab_size


@dataclass(frozen=True)
class Kosmos2Config:
    """The whole model."""

    no_repeat_ngram_size: ClassVar[int] = 3
    """Published decoding: no three tokens in a row twice."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tokens: TokenConfig = field(default_factory=TokenConfig)
    num_queries: int = 64
    """Image slots: embeddings that the connector makes of a picture."""
    trained_absence: bool = False
    """Whether the model was taught to end without ``<object>`` when the picture does not show the phrase. The
    published one was not: it always gives a box."""


KOSMOS_2 = Kosmos2Config()
"""``microsoft/kosmos-2-patch14-224``."""

_TINY_TOKENS = TokenConfig(num_text_tokens=120, grid_size=4)
KOSMOS_2_TINY = Kosmos2Config(
    vision=VisionConfig(
        hidden_size=32, num_layers=2, num_heads=4, inner_size=64, patch_size=8, image_size=32
    ),
    text=TextConfig(
        hidden_size=48,
        num_layers=2,
        num_heads=4,
        inner_size=96,
        vocab_size=_TINY_TOKENS.vocab_size,
        max_positions=256,
        dropout=0.0,
    ),
    tokens=_TINY_TOKENS,
    num_queries=6,
)
"""For tests: the same architecture in some thousand parameters."""

PRESETS = {"kosmos-2": KOSMOS_2, "kosmos-2-tiny": KOSMOS_2_TINY}
