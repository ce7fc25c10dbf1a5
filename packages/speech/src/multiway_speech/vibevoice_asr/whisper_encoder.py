"""The encoder of Whisper (arXiv 2212.04356, section 2.2) as the semantic encoder of a small VibeVoice-ASR.

Log-mel columns, two convolutions, and a Transformer that looks both ways: 50 columns a second, of which two
neighbours make a frame. It reads windows of 30 s at most. Longer sound is cut into windows that overlap, and the
columns near a cut, which lack one side, are dropped; so memory is constant, and frames do not depend on the pieces
in which the sound comes.

Shape suffixes: B batch, T samples, K frequencies, M mel bands, N columns, C hidden size, F frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from multiway_blocks.linear import Linear
from torch import Tensor, nn

_FFT_SIZE, _MEL_HOP = 400, 160
_STRIDE = 2 * _MEL_HOP
"""Samples from column to column behind the second convolution, which halves their rate."""
TRAILING_SILENCE = 16_000
"""Samples of silence behind the end, as far as the window holds them."""


@dataclass(frozen=True)
class WhisperEncoderConfig:
    """Sizes; the defaults are those of Whisper tiny."""

    hidden_size: int = 384
    num_layers: int = 4
    num_heads: int = 6
    num_mels: int = 80
    positions: int = 1500
    """Columns of a window."""
    stacked: int = 2
    """Neighbouring columns that make a frame."""
    margin: int = 100
    """Columns that are dropped on each side of a cut."""
    sample_rate: int = 16_000
    phones: int = 0
    """If given, a head tells the probabilities of so many phones, and frames are of these."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}")
        if self.positions % self.stacked or self.margin % self.stacked or self.positions <= 2 * self.margin:
            raise ValueError(
                f"positions {self.positions} and margin {self.margin} must be whole frames of {self.stacked} "
                "columns, and a window must be longer than both its margins"
            )

    @property
    def latent_size(self) -> int:
        """Numbers in a frame."""
        return (self.phones or self.hidden_size) * self.stacked

    @property
    def hop(self) -> int:
        """Samples in a frame."""
        return _STRIDE * self.stacked


class WhisperLayer(nn.Module):
    """``x + attention(norm(x))``, then ``x + W2 gelu(W1 norm(x))``."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.qkv = Linear(hidden_size, 3 * hidden_size)  # the keys' bias is zero
        self.output = Linear(hidden_size, hidden_size)
        self.feedforward_norm = nn.LayerNorm(hidden_size)
        self.up = Linear(hidden_size, 4 * hidden_size)
        self.down = Linear(4 * hidden_size, hidden_size)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        parts = self.qkv(self.attention_norm(x_BNC)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        heard = nn.functional.scaled_dot_product_attention(query, key, value)
        x_BNC = x_BNC + self.output(heard.transpose(1, 2).flatten(2))
        return x_BNC + self.down(nn.functional.gelu(self.up(self.feedforward_norm(x_BNC))))


class PhoneHead(nn.Module):
    """Columns of the encoder -> probabilities of phones: what the semantic tokenizer's proxy task is to the paper's.

    Two convolutions over a tenth of a second each. Phones are what a few hours of speech teach well; how they are
    spelt, text alone can teach.
    """

    def __init__(self, hidden_size: int, phones: int, width: int = 256) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(hidden_size, width, 5, padding=2)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2)
        self.output = Linear(width, phones)

    def forward(self, columns_BNC: Tensor) -> Tensor:
        """(B, N, C) -> logits (B, N, P)."""
        x_BCN = nn.functional.gelu(self.conv1(columns_BNC.transpose(1, 2)))
        x_BCN = nn.functional.gelu(self.conv2(x_BCN))
        return self.output(x_BCN.transpose(1, 2))


class WhisperEncoder(nn.Module):
    """Waveform -> frames of stacked columns."""

    def __init__(self, config: WhisperEncoderConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.conv1 = nn.Conv1d(config.num_mels, size, 3, padding=1)
        self.conv2 = nn.Conv1d(size, size, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(config.positions, size))
        self.layers = nn.ModuleList(WhisperLayer(size, config.num_heads) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(size)
        self.phones = PhoneHead(size, config.phones) if config.phones else None

    def forward(self, waveform_B1T: Tensor) -> Tensor:
        """(B, 1, T) -> (B, ceil(T / hop), D)."""
        stream = WhisperStream(self)
        return torch.cat([stream.feed(waveform_B1T), stream.finish()], dim=1)

    def columns(self, mels_BMN: Tensor) -> Tensor:
        """Log-mel columns (B, M, N) of one window -> (B, N / 2, C): what Whisper's decoder looks at."""
        x_BCN = nn.functional.gelu(self.conv1(mels_BMN))
        x_BNC = nn.functional.gelu(self.conv2(x_BCN)).transpose(1, 2)
        x_BNC = x_BNC + self.positions[: x_BNC.shape[1]]
        for layer in self.layers:
            x_BNC = layer(x_BNC)
        return self.norm(x_BNC)

    def window(self, waveform_B1T: Tensor) -> Tensor:
        """Frames (B, T / hop, D) of whole frames of samples, a window's length at most."""
        mels_BMN = log_mel(waveform_B1T[:, 0], self.config.num_mels).to(waveform_B1T.dtype)
        columns_BNC = self.columns(mels_BMN)
        if self.phones is not None:
            columns_BNC = self.phones(columns_BNC).softmax(-1)
        return columns_BNC.unflatten(1, (-1, self.config.stacked)).flatten(2)


class WhisperStream:
    """Sound that comes in pieces of any length; its frames are those of the whole."""

    def __init__(self, encoder: WhisperEncoder) -> None:
        config = encoder.config
        self.encoder = encoder
        self._window = config.positions * _STRIDE
        self._margin = config.margin * _STRIDE
        self._waiting: Tensor | None = None
        self._cut = False

    def feed(self, waveform_B1T: Tensor) -> Tensor:
        """Frames (B, F, D) of the windows that are full with this piece (B, 1, T)."""
        waiting_B1T = (
            waveform_B1T if self._waiting is None else torch.cat([self._waiting, waveform_B1T], dim=-1)
        )
        found = [waveform_B1T.new_empty(len(waveform_B1T), 0, self.encoder.config.latent_size)]
        while waiting_B1T.shape[-1] > self._window:
            frames_BFD = self.encoder.window(waiting_B1T[..., : self._window])
            found.append(self._kept(frames_BFD, self._window - self._margin))
            waiting_B1T = waiting_B1T[..., self._window - 2 * self._margin :]
            self._cut = True
        self._waiting = waiting_B1T.clone() if len(found) > 1 else waiting_B1T
        return torch.cat(found, dim=1)

    def finish(self) -> Tensor:
        """Frames (B, F, D) of the rest, behind which silence stands: Whisper's own windows also end in it."""
        if self._waiting is None:
            raise ValueError("nothing was fed")
        samples = self._waiting.shape[-1]
        whole = -(-samples // self.encoder.config.hop) * self.encoder.config.hop
        padded = min(whole + TRAILING_SILENCE, self._window)
        frames_BFD = self.encoder.window(nn.functional.pad(self._waiting, (0, padded - samples)))
        self._waiting = None
        return self._kept(frames_BFD, whole)

    def _kept(self, frames_BFD: Tensor, end: int) -> Tensor:
        hop = self.encoder.config.hop
        return frames_BFD[:, self._margin // hop if self._cut else 0 : end // hop]


def log_mel(waveform_BT: Tensor, num_mels: int) -> Tensor:
    """Whisper's log-mel columns (B, M, T / 160), float32: 25 ms windows, eight decades below the loudest."""
    window = torch.hann_window(_FFT_SIZE, device=waveform_BT.device)
    spectrum = torch.stft(
        waveform_BT.float(), _FFT_SIZE, _MEL_HOP, window=window, center=True, return_complex=True
    )
    power_BKN = torch.view_as_real(spectrum[..., :-1]).square().sum(-1)
    filters_MK = mel_filters(num_mels).to(waveform_BT.device)
    with torch.autocast(waveform_BT.device.type, enabled=False):
        log_BMN = (filters_MK @ power_BKN).clamp_min(1e-10).log10()
    loudest_B11 = log_BMN.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(log_BMN, loudest_B11 - 8.0) + 4.0) / 4.0


@lru_cache(maxsize=4)
def mel_filters(num_mels: int, sample_rate: int = 16_000) -> Tensor:
    """Triangles (M, K) of equal area on Slaney's mel scale: linear below 1 kHz, logarithmic above."""
    corner, step = 1000.0, math.log(6.4) / 27.0

    def to_hertz(mels: Tensor) -> Tensor:
        linear = 200.0 / 3 * mels
        return torch.where(mels < 15.0, linear, corner * torch.exp(step * (mels - 15.0)))

    top = 15.0 + math.log(sample_rate / 2 / corner) / step
    edges = to_hertz(torch.linspace(0.0, top, num_mels + 2, dtype=torch.float64))
    frequencies_K = torch.linspace(0.0, sample_rate / 2, _FFT_SIZE // 2 + 1, dtype=torch.float64)
    slopes = frequencies_K - edges[:, None]
    rising = slopes[:-2] / edges.diff()[:-1, None]
    falling = -slopes[2:] / edges.diff()[1:, None]
    triangles_MK = torch.minimum(rising, falling).clamp_min(0.0)
    return (triangles_MK * (2.0 / (edges[2:] - edges[:-2]))[:, None]).float()
