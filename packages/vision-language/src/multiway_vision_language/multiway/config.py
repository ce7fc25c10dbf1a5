"""Sizes of a Multiway Transformer, and what its modalities own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from multiway_core.errors import ConfigError

Partition = Literal["all", "feedforward", "none"]
"""What every modality has a copy of: all matrices and norms (BEiT-3 as released); the feed-forward network and the norm
before it (VLMo, VL-BEiT, the BEiT-3 of the paper); nothing."""


@dataclass(frozen=True)
class MultiwayConfig:
    """A Transformer for pictures, texts, and pictures with texts.

    Attributes:
        vocab_size: of the text tokens.
        image_size, patch_size, num_channels: of square pictures.
        max_text: text tokens that there are positions for.
        partition: what the modalities own.
        pair_layers: so many of the last layers have a third expert, for the tokens of a pair.
        sub_norm: whether Magneto's inner norms are there.
        key_bias: whether keys have a bias, which no softmax can tell from none.
        layer_scale: initial scale of each part's result; 0 for none.
        norm_eps: of every LayerNorm.
        final_norm: whether there is a norm behind the last layer.
        drop_path: of the last layer; that of earlier ones is proportional to their depth.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    inner_size: int
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    max_text: int = 1022
    partition: Partition = "all"
    pair_layers: int = 0
    sub_norm: bool = True
    key_bias: bool = True
    layer_scale: float = 0.0
    norm_eps: float = 1e-5
    final_norm: bool = True
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}"
            )
        if not 0 <= self.pair_layers <= self.num_layers or (self.pair_layers and self.partition == "none"):
            raise ConfigError(f"pair_layers must be 0 to {self.num_layers}, and 0 without experts")

    @property
    def grid(self) -> int:
        """Patches of a picture's side."""
        return self.image_size // self.patch_size

    @property
    def image_tokens(self) -> int:
        """Patches of a picture, and the class token."""
        return self.grid**2 + 1
