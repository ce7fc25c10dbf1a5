"""The GE2E speaker encoder (arXiv 1710.10467): speech -> an embedding on the unit sphere.

Mel columns of 25 ms windows every 10 ms, three LSTM layers, a linear map of the last state without its negative part,
and unit length. It hears 1.6 s at once: the embedding of a longer stretch is the mean of its windows'.

Shape suffixes: B batch, T samples, K frequencies, M mel bands, N columns, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from multiway_core import checkpoint
from multiway_core.checkpoint import Rule, RuleTable
from torch import Tensor, nn

from multiway_speech.mel import area_filters

WINDOW, STEP = 160, 80
"""Columns that are heard at once, and from one such window to the next."""
TARGET_DBFS = -30.0
"""A softer stretch is raised to this (root mean square, full scale at 0), as in the training."""
_FFT_SIZE, _HOP = 400, 160
_SCALE = 64.0
"""Of columns that are kept as float16, whose numbers below 6e-5 lose digits."""
_PUBLISHED = RuleTable([Rule("{rest*}", "{rest*}")], dropped=("similarity_weight", "similarity_bias"))
"""The names are ours; the two numbers of the training's loss are not needed."""


@dataclass(frozen=True)
class SpeakerEncoderConfig:
    """Sizes; the defaults are those of the published weights."""

    num_mels: int = 40
    hidden_size: int = 256
    num_layers: int = 3
    embedding_size: int = 256
    sample_rate: int = 16_000


class SpeakerEncoder(nn.Module):
    """Speech -> embedding."""

    def __init__(self, config: SpeakerEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.lstm = nn.LSTM(config.num_mels, config.hidden_size, config.num_layers, batch_first=True)
        self.linear = nn.Linear(config.hidden_size, config.embedding_size)

    def forward(self, mels_BNM: Tensor) -> Tensor:
        """Columns (B, N, M) of windows of speech -> (B, E), of unit length."""
        _, (last_LBE, _) = self.lstm(mels_BNM)
        return nn.functional.normalize(self.linear(last_LBE[-1]).relu(), dim=-1)

    @torch.no_grad()
    def embed(self, waveform_T: Tensor) -> Tensor:
        """The voice of a stretch of speech: (E,)."""
        columns = VoiceColumns(self.config)
        columns.feed(waveform_T)
        return self.embed_columns(*columns.finish())

    @torch.no_grad()
    def embed_columns(self, mels_NM: Tensor, power_N: Tensor) -> Tensor:
        """The same of the stretch's :class:`VoiceColumns`. What is shorter than a window is heard over and over."""
        windows_WE = self.embed_windows(mels_NM, power_N, window_starts(len(mels_NM)), whole=True)
        return nn.functional.normalize(windows_WE.mean(0), dim=-1)

    @torch.no_grad()
    def embed_windows(
        self, mels_NM: Tensor, power_N: Tensor, starts: Sequence[int], *, whole: bool = False
    ) -> Tensor:
        """The voice in each window that begins at one of the columns ``starts``: (W, E).

        Soft sound is raised, by its mean power in each window, or in all columns if ``whole``.
        """
        weight = self.linear.weight
        missing = WINDOW - len(mels_NM)
        if missing > 0:
            times = -(-WINDOW // len(mels_NM))
            mels_NM, power_N = mels_NM.repeat(times, 1)[:WINDOW], power_N.repeat(times)[:WINDOW]
        windows_WNM = torch.stack([mels_NM[start : start + WINDOW] for start in starts])
        powers_WN = torch.stack([power_N[start : start + WINDOW] for start in starts])
        power_W = power_N.float().mean().expand(len(starts)) if whole else powers_WN.float().mean(1)
        gain_W = (10 ** (TARGET_DBFS / 10) / power_W.clamp_min(1e-10)).clamp_min(1.0)
        return self(windows_WNM.to(weight) * gain_W[:, None, None].to(weight))


def window_starts(columns: int) -> list[int]:
    """First columns of the windows over so many columns; the last window ends with them."""
    last = max(0, columns - WINDOW)
    return sorted({*range(0, last + 1, STEP), last})


class VoiceColumns:
    """Mel columns and their power of sound that comes in pieces; float16 while it comes: 8 kB a second."""

    def __init__(self, config: SpeakerEncoderConfig) -> None:
        self._filters_KM = area_filters(_FFT_SIZE, config.num_mels, config.sample_rate)
        self._window_T = torch.hann_window(_FFT_SIZE)
        self._rest_T = torch.zeros(_FFT_SIZE // 2)
        self._parts: list[Tensor] = []

    def feed(self, waveform_T: Tensor) -> None:
        """The next piece, of any length."""
        heard_T = torch.cat([self._rest_T, waveform_T.detach().float().cpu()])
        count = max(0, (len(heard_T) - _FFT_SIZE) // _HOP + 1)
        self._rest_T = heard_T[count * _HOP :]
        if count:
            frames_NT = heard_T[: (count - 1) * _HOP + _FFT_SIZE].unfold(0, _FFT_SIZE, _HOP)
            spectrum_NK = torch.fft.rfft(frames_NT * self._window_T)
            mels_NM = torch.view_as_real(spectrum_NK).square().sum(-1) @ self._filters_KM
            power_N1 = frames_NT.square().mean(1, keepdim=True)
            self._parts.append((torch.cat([mels_NM, power_N1], 1) * _SCALE).half())

    def finish(self) -> tuple[Tensor, Tensor]:
        """Mels (N, M) and power (N,), float32, of all that was heard; the middle of column n is at n * 10 ms."""
        self.feed(torch.zeros(_FFT_SIZE // 2))
        columns = torch.cat(self._parts).float() / _SCALE
        return columns[:, :-1], columns[:, -1]


def load_encoder(path: Path) -> SpeakerEncoder:
    """The published weights (``pretrained.pt`` of the package Resemblyzer). Raises CheckpointError."""
    encoder = SpeakerEncoder(SpeakerEncoderConfig())
    checkpoint.load(encoder, path, rules=_PUBLISHED, key="model_state")
    return encoder.float().eval()
