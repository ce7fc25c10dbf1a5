"""The acoustic tokenizer: waveform <-> frames, at once or as a stream (arXiv 2508.19205, section 2.1).

Shape suffixes: B batch, T samples, F frames, D latent size. Waveforms are mono, (B, 1, T), float, full scale at 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from multiway_blocks.causal_conv import StreamState
from multiway_blocks.vae import CausalDecoder, CausalEncoder, sample_latents
from torch import Tensor, nn

from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
from multiway_speech.speech_tokenizer.spectral import SpectralDecoder, SpectralEncoder

PIECE_SECONDS = 10.0
"""Long audio is encoded in pieces of this length: memory grows with it, and the result does not depend on it."""


def new_encoder(config: SpeechTokenizerConfig) -> CausalEncoder | SpectralEncoder:
    """The encoder of a configuration, untrained; by itself it is the semantic tokenizer."""
    spectrum = config.spectrum
    encoder = CausalEncoder(
        latent_size=config.latent_size,
        num_filters=config.num_filters,
        ratios=config.ratios,
        depths=config.depths,
        widths=config.widths,
        in_channels=spectrum.num_mels if spectrum else 1,
        kernel_size=config.kernel_size,
        expansion=config.expansion,
        eps=config.norm_eps,
        layer_scale=config.layer_scale,
    )
    return SpectralEncoder(encoder, spectrum, config.sample_rate) if spectrum else encoder


def new_decoder(config: SpeechTokenizerConfig) -> CausalDecoder | SpectralDecoder:
    """The decoder of a configuration, untrained."""
    widths = None if config.widths is None else config.widths[::-1]
    spectrum = config.spectrum
    decoder = CausalDecoder(
        latent_size=config.latent_size,
        num_filters=config.num_filters,
        ratios=config.ratios[::-1],
        depths=(config.decoder_depths or config.depths)[::-1],
        widths=widths,
        out_channels=(config.widths[0] if config.widths else config.num_filters) if spectrum else 1,
        kernel_size=config.kernel_size,
        expansion=config.expansion,
        eps=config.norm_eps,
        layer_scale=config.layer_scale,
    )
    return SpectralDecoder(decoder, spectrum) if spectrum else decoder


class AcousticTokenizer(nn.Module):
    """Encoder, sigma-VAE noise, decoder."""

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = new_encoder(config)
        self.decoder = new_decoder(config)

    def encode(self, waveform_B1T: Tensor) -> Tensor:
        """Means (B, F, D) of the latents; the last frame is filled up with silence."""
        return self.encoder(pad_to_frames(waveform_B1T, self.config.hop))

    def sample(self, mean_BFD: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents (B, F, D) with the noise that the decoder was trained to bear."""
        return sample_latents(mean_BFD, self.config.noise_std, generator)

    def decode(self, latents_BFD: Tensor) -> Tensor:
        """Waveform (B, 1, F * hop)."""
        return self.decoder(latents_BFD)

    def encode_stream(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Means (B, F', D) of pieces (B, 1, T') of any length, together what :meth:`encode` gives for the whole."""
        return encode_stream(self.encoder, pieces)

    def decode_stream(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Waveforms (B, 1, F' * hop) of latents (B, F', D), together what :meth:`decode` gives for the whole."""
        state: StreamState | None = None
        for piece_BFD in pieces:
            state = state or StreamState(len(piece_BFD))
            yield self.decoder(piece_BFD, state)


def pad_to_frames(waveform_B1T: Tensor, hop: int) -> Tensor:
    """Silence behind the waveform up to a whole number of frames."""
    return nn.functional.pad(waveform_B1T, (0, -waveform_B1T.shape[-1] % hop))


def encode_stream(encoder: CausalEncoder | SpectralEncoder, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Frames (B, F', D) of a waveform that comes in pieces (B, 1, T'); samples of a partial frame wait.

    The memory needed is that of the longest piece. Silence fills the last frame.
    """
    state: StreamState | None = None
    samples = 0
    last: Tensor | None = None
    for piece_B1T in pieces:
        state = state or StreamState(len(piece_B1T))
        samples += piece_B1T.shape[-1]
        last = piece_B1T
        frames_BFD = encoder(piece_B1T, state)
        if frames_BFD.shape[1]:
            yield frames_BFD
    missing = -samples % encoder.hop + getattr(encoder, "lookahead", 0)
    if last is not None and missing:
        yield encoder(last.new_zeros(*last.shape[:-1], missing), state)


def split_waveform(waveform_B1T: Tensor, config: SpeechTokenizerConfig) -> Iterator[Tensor]:
    """A waveform in pieces of :data:`PIECE_SECONDS`, whole frames each but the last."""
    frames = max(1, int(PIECE_SECONDS * config.frame_rate))
    yield from waveform_B1T.split(frames * config.hop, dim=-1)
