"""Sizes of the continuous speech tokenizers (VibeVoice, arXiv 2508.19205, section 2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SpeechTokenizerConfig:
    """A causal convolutional encoder, and the decoder that mirrors it."""

    latent_size: int = 64
    num_filters: int = 32
    """Channels at the full sampling rate; they double with each stage."""
    ratios: tuple[int, ...] = (2, 2, 4, 5, 5, 8)
    """Downsampling from stage to stage, in the encoder's order."""
    depths: tuple[int, ...] = (3, 3, 3, 3, 3, 3, 8)
    """Blocks of each stage, in the encoder's order."""
    kernel_size: int = 7
    expansion: int = 4
    norm_eps: float = 1e-5
    layer_scale: float = 1e-6
    """What the scales of the branches start from in training."""
    noise_std: float = 0.625
    """Spread of the noise level of the sigma-VAE; 0 for a tokenizer that is not sampled."""
    sample_rate: int = 24_000

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.ratios) + 1:
            raise ValueError(
                f"{len(self.ratios)} ratios need {len(self.ratios) + 1} depths, got {len(self.depths)}"
            )
        if min((self.latent_size, self.num_filters, self.sample_rate, *self.ratios)) < 1:
            raise ValueError("sizes and ratios must be at least 1")

    @property
    def hop(self) -> int:
        """Samples in a frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    def num_frames(self, num_samples: int) -> int:
        """Frames that stand for so many samples, the last one partial."""
        return -(-num_samples // self.hop)


ACOUSTIC = SpeechTokenizerConfig()
"""Of all published models: 7.5 frames a second, 64 numbers each."""
SEMANTIC = replace(ACOUSTIC, latent_size=128, noise_std=0.0)
"""The same encoder with 128 numbers a frame, trained to recognize speech; it has no decoder."""
