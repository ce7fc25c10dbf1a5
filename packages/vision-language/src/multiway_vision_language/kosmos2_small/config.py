"""Sizes of the small grounding network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from multiway_vision_language.kosmos2.config import TextConfig, TokenConfig


@dataclass(frozen=True)
class CellConfig:
    """Features of the location cells, one vector a cell."""

    image_size: int = 256
    """Side in pixels of the square that every picture is warped to; eight times the grid's size."""
    hidden_size: int = 128
    num_blocks: int = 2
    key_size: int = 128
    """Width of what a phrase is compared with."""


@dataclass(frozen=True)
class SmallConfig:
    """The whole network: its text side is Kosmos-2's, its sizes are ours."""

    no_repeat_ngram_size: ClassVar[int] = 0
    """Its pieces of words are small: a ban on repeated triples would break the second of two equal names."""

    cells: CellConfig = field(default_factory=CellConfig)
    text: TextConfig = field(
        default_factory=lambda: TextConfig(
            hidden_size=256,
            num_layers=4,
            num_heads=8,
            inner_size=1024,
            vocab_size=TokenConfig(num_text_tokens=2997).vocab_size,
            max_positions=512,
            dropout=0.0,
        )
    )
    tokens: TokenConfig = field(default_factory=lambda: TokenConfig(num_text_tokens=2997))
    slots_per_side: int = 8
    trained_absence: bool = True
    photographs: bool = False
    """Whether the detector and the classifier answer first for the nouns that they know (`photographs`)."""

    @property
    def num_queries(self) -> int:
        """Image slots: a square of pooled cells."""
        return self.slots_per_side**2


GROUNDING_SMALL = SmallConfig()
