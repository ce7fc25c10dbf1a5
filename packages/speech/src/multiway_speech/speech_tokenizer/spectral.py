"""Spectral ends of the small tokenizer: log-mel columns into the encoder, an inverse STFT behind the decoder.

The published tokenizers spend most of their time in layers that run at the sampling rate. Here the convolutions of
:mod:`multiway_blocks.vae` start and end at one column every ``hop`` samples, which a single core can train. The decoder
ends as Vocos does (arXiv 2306.00814, section 3): each column predicts a magnitude and a phase for every frequency, and
an inverse transform adds the windows up.

Both ends are causal. A window of the decoder begins with its column, so nothing that was given out changes any more.
The encoder's windows have the same middles, for which it hears ``lookahead`` samples beyond its column.

Shape suffixes: B batch, T samples, N columns, K frequencies, C channels, F frames, D latent size.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from multiway_blocks.causal_conv import StreamState
from multiway_blocks.linear import Linear
from multiway_blocks.vae import CausalDecoder, CausalEncoder
from torch import Tensor, nn

from multiway_speech.mel import mean_filters
from multiway_speech.speech_tokenizer.config import SpectrumConfig

MAX_LOG_MAGNITUDE = 5.0
MEAN_LOG_MEL, SPREAD_LOG_MEL = -2.5, 1.5
_FLOOR = 1e-2
"""Of magnitudes before the logarithm: about 60 dB below the peaks of speech at -25 dBFS."""


class SpectralEncoder(nn.Module):
    """Waveform -> log-mel columns -> frames."""

    def __init__(self, trunk: CausalEncoder, config: SpectrumConfig, sample_rate: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.config = config
        self.sample_rate = sample_rate
        self.hop = trunk.hop * config.hop
        self.lookahead = config.lookahead

    def forward(self, waveform_B1T: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, 1, T) -> (B, T // hop, D). With ``state``, what the windows still miss waits for the next piece."""
        size, hop = self.config.mel_fft_size, self.config.hop
        before = size - hop - self.lookahead
        if state is None:
            heard_B1T = nn.functional.pad(waveform_B1T, (before, self.lookahead))
        else:
            heard_B1T = state.join(self, waveform_B1T, before)
        columns = max(0, (heard_B1T.shape[-1] - size) // hop + 1)
        if state is not None:
            state.remember(self, heard_B1T[..., columns * hop :])
        if columns == 0:
            mels_BCN = heard_B1T.new_empty(len(heard_B1T), self.config.num_mels, 0)
        else:
            mels_BCN = log_mel(
                heard_B1T[:, 0, : (columns - 1) * hop + size],
                fft_size=size,
                hop=hop,
                num_mels=self.config.num_mels,
                sample_rate=self.sample_rate,
            )
        return self.trunk(standardized(mels_BCN).to(waveform_B1T.dtype), state)


class SpectralDecoder(nn.Module):
    """Frames -> columns of magnitudes and phases -> waveform."""

    def __init__(self, trunk: CausalDecoder, config: SpectrumConfig) -> None:
        super().__init__()
        channels = trunk.head.conv.out_channels
        self.trunk = trunk
        self.config = config
        self.hop = trunk.hop * config.hop
        self.head = Linear(channels, config.fft_size + 2)

    def forward(self, latents_BFD: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, F, D) -> (B, 1, F * hop)."""
        return self.sound(*self.columns(latents_BFD, state), state).to(latents_BFD.dtype)

    def columns(self, latents_BFD: Tensor, state: StreamState | None = None) -> tuple[Tensor, Tensor]:
        """Logarithms of magnitudes, and phases, of the columns' windows: (B, N, K) float32 each."""
        spectrum_BNC = self.head(self.trunk(latents_BFD, state).transpose(1, 2)).float()
        log_magnitude_BNK, phase_BNK = spectrum_BNC.chunk(2, dim=-1)
        return log_magnitude_BNK.clamp(max=MAX_LOG_MAGNITUDE), phase_BNK

    def sound(self, log_magnitude_BNK: Tensor, phase_BNK: Tensor, state: StreamState | None = None) -> Tensor:
        """Columns (B, N, K) -> (B, 1, N * columns' hop): windows weighted once more, and added up."""
        size, hop = self.config.fft_size, self.config.hop
        # Phases count from the middle of the window, where a sound without any is a pulse; at its ends it is silent.
        magnitude_BNK = log_magnitude_BNK.exp() * _alternating(size // 2 + 1, log_magnitude_BNK.device)
        frames_BNT = torch.fft.irfft(
            torch.complex(magnitude_BNK * phase_BNK.cos(), magnitude_BNK * phase_BNK.sin()), n=size
        )
        # Squared Hann windows at a whole fraction of their length add up to 3/8 of how many overlap.
        window_T = hann(size, frames_BNT.device) * (hop / size * 8 / 3)
        frames_BTN = (frames_BNT * window_T).transpose(1, 2)
        overlaps = size // hop - 1
        columns = frames_BTN.shape[-1]
        if state is None:
            frames_BTN = nn.functional.pad(frames_BTN, (overlaps, 0))
        else:
            frames_BTN = state.join(self, frames_BTN, overlaps)
            state.remember(self, frames_BTN[..., columns:])
        parts_BOHN = frames_BTN.unflatten(1, (overlaps + 1, hop))
        sound_BHN = parts_BOHN[:, 0, :, overlaps:]
        for part in range(1, overlaps + 1):
            sound_BHN = sound_BHN + parts_BOHN[:, part, :, overlaps - part : overlaps - part + columns]
        return sound_BHN.transpose(1, 2).reshape(len(frames_BTN), 1, -1)


def log_mel(waveform_BT: Tensor, *, fft_size: int, hop: int, num_mels: int, sample_rate: int) -> Tensor:
    """Logarithms (B, M, N) of mel-weighted magnitudes of the windows that lie wholly in the waveform; float32."""
    frames_BNT = waveform_BT.float().unfold(-1, fft_size, hop) * hann(fft_size, waveform_BT.device)
    magnitude_BNK = torch.view_as_real(torch.fft.rfft(frames_BNT)).square().sum(-1).clamp_min(1e-9).sqrt()
    filters_KM = mean_filters(fft_size, num_mels, sample_rate, waveform_BT.device)
    with torch.autocast(waveform_BT.device.type, enabled=False):
        return (magnitude_BNK @ filters_KM).clamp_min(_FLOOR).log().transpose(1, 2)


def standardized(mels: Tensor) -> Tensor:
    """Log-mel values of speech at -25 dBFS -> about zero mean and unit spread, or training is ill-conditioned."""
    return (mels - MEAN_LOG_MEL) / SPREAD_LOG_MEL


@lru_cache(maxsize=32)
def hann(size: int, device: torch.device) -> Tensor:
    """Hann window (T,) of a transform, float32."""
    with torch.inference_mode(False):  # whoever asks first, training may use it later
        return torch.hann_window(size, dtype=torch.float32, device=device)


@lru_cache(maxsize=8)
def _alternating(count: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return 1.0 - 2.0 * (torch.arange(count, device=device) % 2)
