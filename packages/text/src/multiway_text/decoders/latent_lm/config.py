"""Sizes of LatentLM and of its picture tokenizer; the published presets (arXiv 2412.08635, sections 2 and 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from multiway_core.errors import InputError

MOST = 1 << 24  # of anything: beyond it a configuration is damaged


def check_sizes(what: str, **sizes: int) -> None:
    """Refuse sizes outside 1 to MOST. Raises InputError that names the first."""
    for name, size in sizes.items():
        if not 1 <= size <= MOST:
            raise InputError(f"{what}: {name} must be 1 to {MOST}, not {size}")


@dataclass(frozen=True)
class TokenizerConfig:
    """The sigma-VAE of square pictures. Raises InputError for sizes that do not go together."""

    image_size: int = 256
    num_channels: int = 3
    patch_size: int = 16
    latent_size: int = 16
    hidden_size: int = 768
    num_layers: int = 12
    """Of the encoder, and again of the decoder."""
    num_heads: int = 12
    inner_size: int = 3072
    variance: Literal["fixed", "learned"] = "fixed"
    """Fixed: a sigma-VAE. Learned: an ordinary VAE, whose encoder says a log-variance as well."""
    noise_std: float = 0.75
    """C_sigma of equation 4: standard deviation of a picture's noise level. 0 is a plain autoencoder."""
    mean_weight: float = 1e-2
    """Of the mean square of the means (fixed), or of the divergence from a normal distribution (learned)."""

    def __post_init__(self) -> None:
        widths = ("latent_size", "hidden_size", "num_layers", "num_heads", "inner_size")
        sizes = ("image_size", "num_channels", "patch_size", *widths)
        check_sizes("tokenizer", **{name: getattr(self, name) for name in sizes})
        if self.image_size % self.patch_size:
            raise InputError(
                f"tokenizer: patch_size {self.patch_size} does not divide image_size {self.image_size}"
            )
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"tokenizer: num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}"
            )
        for name in ("noise_std", "mean_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"tokenizer: {name} must be at least 0, not {value}")

    @property
    def num_latents(self) -> int:
        """Latents of a picture, by rows."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that are no text. Text and class ids begin behind them, at ``first_text``."""

    begin: int = 0
    """<BOD>: the next token is a latent."""
    end: int = 1
    """<EOD>: no further latent follows."""
    latent: int = 2
    """Stands for a latent in a row of tokens; never an input of its own."""
    null: int = 3
    """In the place of text that a guided sampler's second context does not know; padding too."""
    eos: int = 4
    first_text: int = 5


@dataclass(frozen=True)
class LatentLMConfig:
    """The Transformer and its diffusion head. Raises InputError for sizes that do not go together."""

    vocab_size: int = 1005
    """Special tokens and text (bytes, or classes)."""
    latent_size: int = 16
    hidden_size: int = 768
    num_layers: int = 24
    num_heads: int = 12
    head_layers: int = 6
    ffn_ratio: float = 4.0
    """Of an ungated network with as many weights; see ``inner_size``."""
    norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    num_training_steps: int = 1000
    """Of the noise schedule."""
    tokens: SpecialTokens = field(default_factory=SpecialTokens)

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "latent_size", "hidden_size", "num_layers", "num_heads", "head_layers")
        check_sizes("LatentLM", **{name: getattr(self, name) for name in sizes})
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"LatentLM: num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}"
            )
        if self.head_dim % 2:
            raise InputError(f"LatentLM: rotary positions need an even head width, not {self.head_dim}")
        if not (math.isfinite(self.ffn_ratio) and self.inner_size >= 1):
            raise InputError(f"LatentLM: ffn_ratio {self.ffn_ratio} leaves no inner width; 4 is usual")
        if not 2 <= self.num_training_steps <= 100_000:
            raise InputError(
                f"LatentLM: num_training_steps must be 2 to 100000, not {self.num_training_steps}"
            )
        if self.vocab_size <= self.tokens.first_text:
            raise InputError(
                f"LatentLM: vocab_size {self.vocab_size} leaves no text behind {self.tokens.first_text} special tokens"
            )

    @property
    def inner_size(self) -> int:
        """Width of the gated networks: two thirds of ``ffn_ratio`` times the width, in whole 64s (32s below 64)."""
        wanted = self.hidden_size * self.ffn_ratio * 2 / 3
        step = 64 if wanted >= 64 else 32
        return min(int(wanted / step) * step, MOST)

    # What the frame of causal models asks for.
    @property
    def num_kv_heads(self) -> int:
        return self.num_heads

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def tied_embeddings(self) -> bool:
        return False


IMAGE_TOKENIZER = TokenizerConfig()

LATENT_LM_B = LatentLMConfig()
LATENT_LM_L = LatentLMConfig(hidden_size=1024, num_layers=32, num_heads=16, head_layers=8)
LATENT_LM_H = LatentLMConfig(hidden_size=1280, num_layers=40, num_heads=20, head_layers=12)


def _scaling(num_layers: int, hidden_size: int, num_heads: int) -> LatentLMConfig:
    return LatentLMConfig(
        hidden_size=hidden_size, num_layers=num_layers, num_heads=num_heads, head_layers=3, ffn_ratio=6.0
    )


PRESETS = {
    "b": LATENT_LM_B,
    "l": LATENT_LM_L,
    "h": LATENT_LM_H,
    # The scaling study.
    "scaling-medium": _scaling(24, 1024, 16),
    "scaling-large": _scaling(24, 1536, 12),
    "scaling-xl": _scaling(24, 2048, 16),
    "scaling-3b": _scaling(32, 2560, 20),
    "scaling-7b": _scaling(32, 4096, 32),
    "scaling-13b": _scaling(40, 5120, 40),
}
"""Class-conditional ImageNet (1000 classes), by the paper's names."""
