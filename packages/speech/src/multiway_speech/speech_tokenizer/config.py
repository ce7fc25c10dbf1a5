"""Sizes of the continuous speech tokenizers (VibeVoice, arXiv 2508.19205, section 2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SpectrumConfig:
    """Work on a spectrum instead of on samples: what the small tokenizers of ours do, and no published one.

    The encoder's convolutions see log-mel columns, and the decoder's predict columns of a short-time Fourier
    transform, each ``hop`` samples; so no layer runs at the sampling rate.
    """

    hop: int = 160
    """Samples from column to column."""
    num_mels: int = 80
    mel_fft_size: int = 1024
    fft_size: int = 640
    """Of what the decoder predicts; a multiple of ``hop``."""

    def __post_init__(self) -> None:
        if min(self.hop, self.num_mels) < 1 or self.fft_size % self.hop or self.fft_size < 3 * self.hop:
            raise ValueError(
                f"fft_size {self.fft_size} must be a multiple of hop {self.hop}, three times at least"
            )
        if self.mel_fft_size < self.fft_size or (self.mel_fft_size - self.fft_size) % 2:
            raise ValueError(
                f"mel_fft_size {self.mel_fft_size} must be fft_size {self.fft_size} or more, by an even number"
            )

    @property
    def lookahead(self) -> int:
        """Samples that the encoder hears behind a column: its window and the decoder's have the same middle."""
        return (self.mel_fft_size + self.fft_size) // 2 - self.hop

    @property
    def overlap(self) -> int:
        """Samples of the decoder's window that later columns also fill."""
        return self.fft_size - self.hop


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
    decoder_depths: tuple[int, ...] | None = None
    """Blocks of the decoder's stages, in the encoder's order, where they differ from ``depths``."""
    widths: tuple[int, ...] | None = None
    """Channels of each stage in the encoder's order, where they do not just double from ``num_filters``."""
    kernel_size: int = 7
    expansion: int = 4
    norm_eps: float = 1e-5
    layer_scale: float = 1e-6
    """What the scales of the branches start from in training."""
    noise_std: float = 0.625
    """Spread of the noise level of the sigma-VAE; 0 for a tokenizer that is not sampled."""
    sample_rate: int = 24_000
    spectrum: SpectrumConfig | None = None
    """None for the published design, which works on samples throughout."""

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.ratios) + 1:
            raise ValueError(
                f"{len(self.ratios)} ratios need {len(self.ratios) + 1} depths, got {len(self.depths)}"
            )
        for name in ("decoder_depths", "widths"):
            stages = getattr(self, name)
            if stages is not None and len(stages) != len(self.depths):
                raise ValueError(
                    f"{name} must have {len(self.depths)} entries as depths has, got {len(stages)}"
                )
        if min((self.latent_size, self.num_filters, self.sample_rate, *self.ratios)) < 1:
            raise ValueError("sizes and ratios must be at least 1")

    @property
    def hop(self) -> int:
        """Samples in a frame."""
        return math.prod(self.ratios) * (self.spectrum.hop if self.spectrum else 1)

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
TINY_25HZ = SpeechTokenizerConfig(
    widths=(192, 256, 384),
    ratios=(2, 2),
    depths=(0, 1, 2),
    decoder_depths=(4, 1, 2),
    layer_scale=0.1,
    noise_std=0.15,
    sample_rate=16_000,
    spectrum=SpectrumConfig(),
)
"""Small enough to be trained on one core: 25 frames a second at 16 kHz, 64 numbers each."""
TINY_12HZ = replace(TINY_25HZ, widths=(192, 256, 640), ratios=(2, 4))
"""The same at 12.5 frames a second."""
