"""The encoder of Whisper (arXiv 2212.04356, section 2.2): log-mel columns, two convolutions, a Transformer.

Shape suffixes: B batch, T samples, K frequencies, M mel bands, N columns, C hidden size, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from multiway_blocks.feedforward import FeedForward
from multiway_blocks.linear import Linear
from multiway_blocks.transformer import Context, Contextual, PreNorm, Stack
from torch import Tensor, nn

from multiway_speech.mel import area_filters

_FFT_SIZE, _MEL_HOP = 400, 160
COLUMN_SAMPLES = 2 * _MEL_HOP
"""Samples from column to column behind the second convolution, which halves their rate."""


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes; the defaults are those of Whisper tiny.en, with a part of its vocabulary."""

    hidden_size: int = 384
    num_layers: int = 4
    num_heads: int = 6
    num_mels: int = 80
    positions: int = 1500
    """Columns of a window."""
    text_positions: int = 448
    vocab_size: int = 19_000
    alignment_heads: tuple[tuple[int, int], ...] = (
        (1, 0),
        (2, 0),
        (2, 5),
        (3, 0),
        (3, 1),
        (3, 2),
        (3, 3),
        (3, 4),
    )
    """Layer and head of the decoder, of those that look at what is being said."""
    margin: int = 100
    """Columns on each side of a cut whose words the neighbouring window tells."""
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}")
        if self.positions <= 2 * self.margin:
            raise ValueError(
                f"positions {self.positions}: a window must be longer than both its margins of {self.margin}"
            )


class WhisperAttention(Contextual):
    """Self-attention with one matrix for queries, keys and values; with a cache each token sees those before it."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(hidden_size, 3 * hidden_size)  # the keys' bias is zero
        self.output = Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, context: Context, layer: int = 0) -> Tensor:
        """(..., N, C) -> (..., N, C)."""
        query, key, value = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        if context.cache is not None:
            key, value = context.cache.update(layer, key, value)
        is_causal = context.cache is not None and key.shape == query.shape
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return self.output(mixed.transpose(-3, -2).flatten(-2))


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(..., N, C) -> (..., H, N, C / H)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def whisper_layer(config: WhisperConfig, cross: nn.Module | None = None) -> PreNorm:
    """``x + attention(norm(x))``, attention to the sound likewise, ``x + W2 gelu(W1 norm(x))``."""
    size = config.hidden_size
    return PreNorm(
        WhisperAttention(size, config.num_heads),
        FeedForward(size, 4 * size),
        (nn.LayerNorm(size), nn.LayerNorm(size)),
        cross=None if cross is None else (cross, nn.LayerNorm(size)),
    )


class WhisperEncoder(Stack):
    """One window of sound -> columns."""

    def __init__(self, config: WhisperConfig) -> None:
        size = config.hidden_size
        layers = (whisper_layer(config) for _ in range(config.num_layers))
        super().__init__(layers, nn.LayerNorm(size))
        self.config = config
        self.conv1 = nn.Conv1d(config.num_mels, size, 3, padding=1)
        self.conv2 = nn.Conv1d(size, size, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(config.positions, size))

    def forward(self, waveform_B1T: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 1, T) -> (B, T / 320, C) of one window of whole columns."""
        return self.columns(log_mel(waveform_B1T[:, 0], self.config.num_mels).to(waveform_B1T.dtype))

    def columns(self, mels_BMN: Tensor) -> Tensor:
        """Log-mel columns (B, M, N) of one window -> (B, N / 2, C): what Whisper's decoder looks at."""
        x_BCN = nn.functional.gelu(self.conv1(mels_BMN))
        x_BNC = nn.functional.gelu(self.conv2(x_BCN)).transpose(1, 2)
        x_BNC = x_BNC + self.positions[: x_BNC.shape[1]]
        return super().forward(x_BNC, Context())


def log_mel(waveform_BT: Tensor, num_mels: int) -> Tensor:
    """Whisper's log-mel columns (B, M, T / 160), float32: 25 ms windows, eight decades below the loudest."""
    window = torch.hann_window(_FFT_SIZE, device=waveform_BT.device)
    spectrum = torch.stft(
        waveform_BT.float(), _FFT_SIZE, _MEL_HOP, window=window, center=True, return_complex=True
    )
    power_BKN = torch.view_as_real(spectrum[..., :-1]).square().sum(-1)
    filters_MK = area_filters(_FFT_SIZE, num_mels, 16_000).T.to(waveform_BT.device)
    with torch.autocast(waveform_BT.device.type, enabled=False):
        log_BMN = (filters_MK @ power_BKN).clamp_min(1e-10).log10()
    loudest_B11 = log_BMN.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(log_BMN, loudest_B11 - 8.0) + 4.0) / 4.0
