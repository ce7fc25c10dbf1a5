"""Sizes of a Kokoro; the defaults are those of the published Kokoro-82M."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KokoroConfig:
    """Attributes:

    symbols: ids of phones and marks; 0 stands at both ends.
    positions: ids at most, with both ends.
    style_size: of each half of a style: how the voice sounds, and how it speaks.
    max_duration: frames of a symbol at most.
    upsampling: of the vocoder's stages; a stage halves the channels.
    kernels, dilations: of the vocoder's residual blocks.
    noise_kernels: of the blocks that read the source, one a stage.
    fft_size, hop: of the inverse Fourier transform that gives the samples.
    """

    symbols: int = 178
    positions: int = 512
    embedding_size: int = 128
    bert_size: int = 768
    bert_heads: int = 12
    bert_inner_size: int = 2048
    bert_layers: int = 12
    hidden_size: int = 512
    style_size: int = 128
    layers: int = 3
    text_kernel: int = 5
    max_duration: int = 50
    decoder_size: int = 1024
    residual_size: int = 64
    upsampling: tuple[int, ...] = (10, 6)
    upsampling_kernels: tuple[int, ...] = (20, 12)
    kernels: tuple[int, ...] = (3, 7, 11)
    noise_kernels: tuple[int, ...] = (7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)
    fft_size: int = 20
    hop: int = 5
    harmonics: int = 8
    sample_rate: int = 24_000
