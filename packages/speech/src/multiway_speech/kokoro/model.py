"""Kokoro-82M (hexgrad 2025): phones and a style -> samples, after StyleTTS 2 (Li et al. 2023) without its diffusion.

A style has two halves: how the voice sounds (decoder) and how it speaks (durations, pitch, energy). A PL-BERT reads the
phones; from it come each phone's duration, and with the durations pitch and energy; another encoder of the phones, made
as long as the durations say, and these curves become sound.

Shape suffixes: B batch (1), L symbols, E hidden size, C channels, T frames of 25 ms, P frames of 12.5 ms, S half of a
style, N samples.
"""

from __future__ import annotations

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.feedforward import FeedForward, gelu_tanh
from multiway_blocks.transformer import Context, PostNorm
from torch import Tensor, nn
from torch.nn import functional

from multiway_speech.kokoro.config import KokoroConfig
from multiway_speech.kokoro.layers import Convolution, StyleBlock
from multiway_speech.kokoro.vocoder import Decoder


class PhoneBert(nn.Module):
    """An ALBERT (Lan et al. 2020) over phones: one layer, applied many times."""

    def __init__(self, config: KokoroConfig) -> None:
        super().__init__()
        self.layers = config.bert_layers
        self.symbols = nn.Embedding(config.symbols, config.embedding_size)
        self.positions = nn.Embedding(config.positions, config.embedding_size)
        self.types = nn.Embedding(2, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size, eps=1e-12)
        size = config.bert_size
        self.widen = nn.Linear(config.embedding_size, size)
        self.block = PostNorm(
            Attention(size, config.bert_heads, bias=True),
            FeedForward(size, config.bert_inner_size, activation=gelu_tanh),
            (nn.LayerNorm(size, eps=1e-12), nn.LayerNorm(size, eps=1e-12)),
        )

    def forward(self, ids_BL: Tensor) -> Tensor:
        """(B, L) -> (B, L, width of the ALBERT)."""
        x_BLE = self.symbols(ids_BL) + self.positions.weight[: ids_BL.shape[1]] + self.types.weight[0]
        x_BLE = self.widen(self.norm(x_BLE))
        for _ in range(self.layers):
            x_BLE = self.block(x_BLE, Context())
        return x_BLE


class TextEncoder(nn.Module):
    """Convolutions and a bidirectional LSTM over the symbols."""

    def __init__(self, config: KokoroConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.embedding = nn.Embedding(config.symbols, size)
        self.convs = nn.ModuleList(
            nn.Conv1d(size, size, config.text_kernel, padding=config.text_kernel // 2)
            for _ in range(config.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(config.layers))
        self.lstm = nn.LSTM(size, size // 2, batch_first=True, bidirectional=True)

    def forward(self, ids_BL: Tensor) -> Tensor:
        """(B, L) -> (B, L, E)."""
        x_BLE = self.embedding(ids_BL)
        for convolve, norm in zip(self.convs, self.norms, strict=True):
            x_BLE = functional.leaky_relu(norm(convolve(x_BLE.mT).mT), 0.2)
        return self.lstm(x_BLE)[0]


class StyleLayerNorm(nn.Module):
    """Layer normalization with scale and shift from the style."""

    def __init__(self, size: int, style_size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style_size, 2 * size)

    def forward(self, x_BLE: Tensor, style_BS: Tensor) -> Tensor:
        gamma_BE, beta_BE = self.fc(style_BS).chunk(2, dim=1)
        return torch.addcmul(
            beta_BE[:, None], functional.layer_norm(x_BLE, x_BLE.shape[-1:]), 1 + gamma_BE[:, None]
        )


class ProsodyPredictor(nn.Module):
    """Durations of the symbols; pitch and energy of the frames."""

    def __init__(self, config: KokoroConfig) -> None:
        super().__init__()
        size, style = config.hidden_size, config.style_size

        def lstm() -> nn.LSTM:
            return nn.LSTM(size + style, size // 2, batch_first=True, bidirectional=True)

        def curve() -> nn.ModuleList:
            return nn.ModuleList(
                [
                    StyleBlock(size, size, style),
                    StyleBlock(size, size // 2, style, upsample=True),
                    StyleBlock(size // 2, size // 2, style),
                ]
            )

        self.lstms = nn.ModuleList(lstm() for _ in range(config.layers))
        self.norms = nn.ModuleList(StyleLayerNorm(size, style) for _ in range(config.layers))
        self.lstm, self.shared = lstm(), lstm()
        self.duration_proj = nn.Linear(size, config.max_duration)
        self.F0, self.N = curve(), curve()
        self.F0_proj, self.N_proj = Convolution(size // 2, 1, 1), Convolution(size // 2, 1, 1)

    def durations(self, x_BLE: Tensor, style_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of each symbol (L,), not rounded, and what pitch and energy are told of: (B, L, E + S)."""
        style_BLS = style_BS[:, None].expand(-1, x_BLE.shape[1], -1)
        x_BLE = torch.cat([x_BLE, style_BLS], dim=-1)
        for lstm, norm in zip(self.lstms, self.norms, strict=True):
            x_BLE = torch.cat([norm(lstm(x_BLE)[0], style_BS), style_BLS], dim=-1)
        frames_L = self.duration_proj(self.lstm(x_BLE)[0]).float().sigmoid().sum(-1)[0]
        return frames_L, x_BLE

    def curves(self, x_BTE: Tensor, style_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Pitch in hertz and energy, (P,) each."""
        shared = self.shared(x_BTE)[0].mT[:, :, None].contiguous(memory_format=torch.channels_last)
        found = []
        for blocks, project in ((self.F0, self.F0_proj), (self.N, self.N_proj)):
            y = shared
            for block in blocks:
                y = block(y, style_BS)
            found.append(project(y)[0, 0, 0])
        return found[0], found[1]


class Kokoro(nn.Module):
    """The network."""

    def __init__(self, config: KokoroConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = PhoneBert(config)
        self.bert_encoder = nn.Linear(config.bert_size, config.hidden_size)
        self.predictor = ProsodyPredictor(config)
        self.text_encoder = TextEncoder(config)
        self.decoder = Decoder(config)

    @torch.no_grad()
    def forward(
        self,
        ids_L: Tensor,
        style_S2: Tensor,
        speed: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Samples (N,) in float32, and the frames of 25 ms that each symbol takes (L,).

        Args:
            ids_L: symbols with 0 at both ends, at most ``config.positions``.
            style_S2: both halves of the style.
            speed: divides the durations.
            generator: of the noise in the source, on the CPU; None takes PyTorch's own.
        """
        weight = self.bert_encoder.weight
        sound_BS, manner_BS = style_S2.to(weight)[None].chunk(2, dim=1)
        read_BLE = self.bert_encoder(self.bert(ids_L[None]))
        frames_L, told_BLE = self.predictor.durations(read_BLE, manner_BS)
        frames_L = (frames_L / speed).round().clamp_min(1).long()
        pitch_P, energy_P = self.predictor.curves(told_BLE.repeat_interleave(frames_L, dim=1), manner_BS)
        text_BTE = self.text_encoder(ids_L[None]).repeat_interleave(frames_L, dim=1)
        decode = self.decoder.encode.conv1.weight
        text = text_BTE.mT[:, :, None].to(decode).contiguous(memory_format=torch.channels_last)
        samples_N = self.decoder(text, pitch_P, energy_P, sound_BS.to(decode), generator)
        return samples_N, frames_L
