"""Sizes of the Kosmos family's decoder, and where the ids of its tokens lie (arXiv 2302.14045, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DecoderConfig:
    """The Magneto decoder."""

    hidden_size: int = 2048
    num_layers: int = 24
    num_heads: int = 32
    inner_size: int = 8192
    vocab_size: int = 65_037
    max_positions: int = 2048
    """Trained length in tokens, images included; the sinusoidal table grows past it."""
    norm_eps: float = 1e-5
    dropout: float = 0.1
    scale_embedding: bool = True


def token(offset: int) -> Any:
    """An id so many places behind ``<mask>``."""
    return property(lambda tokens: tokens.mask + offset)


@dataclass(frozen=True)
class TokenLayout:
    """Four control tokens, text tokens, ``<mask>``, then the marks and location tokens of a system."""

    num_text_tokens: int = 63_997

    bos: int = 0
    pad: int = 1
    eos: int = 2
    unknown: int = 3

    first_text = 4
    image = token(2)
    """``<image>``: the image begins."""
    image_end = token(3)
    """``</image>``."""
    chunk_end = token(4)
    """``</chunk>``, unused by the published models."""

    @property
    def mask(self) -> int:
        """``<mask>``, unused by the published models; the first id behind the text tokens."""
        return self.first_text + self.num_text_tokens

    def is_text(self, token: int) -> bool:
        """Whether an id is a text token."""
        return self.first_text <= token < self.mask
