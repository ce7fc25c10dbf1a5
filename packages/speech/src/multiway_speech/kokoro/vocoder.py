"""Frames, pitch and energy -> samples: Kokoro's decoder and its iSTFTNet (Kaneko et al. 2022) with a harmonic source.

Shape suffixes: B batch (1), C channels, T frames of 25 ms, P frames of 12.5 ms (pitch), N samples, H harmonics,
S style, F frequencies.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiway_speech.kokoro.config import KokoroConfig
from multiway_speech.kokoro.layers import Convolution, SnakeBlock, StyleBlock, Upsampling

_VOICED_HERTZ, _SINE, _NOISE = 10.0, 0.1, 0.003


class Source(nn.Module):
    """Sines at the pitch and its harmonics where there is a voice, noise where there is none (Wang et al. 2019)."""

    def __init__(self, config: KokoroConfig, step: int) -> None:
        """``step``: samples of a frame of the pitch."""
        super().__init__()
        self.rate, self.step = config.sample_rate, step
        self.l_linear = nn.Linear(config.harmonics + 1, 1)

    def forward(self, pitch_P: Tensor, generator: torch.Generator | None) -> Tensor:
        """Hertz a frame -> samples (N,), float32."""
        harmonics = len(self.l_linear.weight[0])
        numbers_H = torch.arange(1, harmonics + 1, device=pitch_P.device)
        turns_HP = (pitch_P * numbers_H[:, None] / self.rate) % 1.0
        # The first sample of each harmonic but the first gets a random phase; the mean over a frame that follows takes
        # the middle of the first frame, where it is not.
        phase_HP = torch.cumsum(turns_HP.double(), dim=1) * self.step
        phase_HN = functional.interpolate(phase_HP[None], scale_factor=self.step, mode="linear")[0]
        sines_HN = torch.sin(2 * math.pi * (phase_HN % 1.0)).float() * _SINE
        voiced_N = (pitch_P > _VOICED_HERTZ).float().repeat_interleave(self.step)
        loud_N = voiced_N * _NOISE + (1 - voiced_N) * _SINE / 3
        noise_HN = torch.randn(sines_HN.shape, generator=generator).to(sines_HN.device)
        mixed_HN = sines_HN * voiced_N + loud_N * noise_HN
        return torch.tanh(functional.linear(mixed_HN.T, self.l_linear.weight, self.l_linear.bias))[:, 0]


class Generator(nn.Module):
    """Hidden frames -> magnitudes and phases of short windows -> samples."""

    window: Tensor

    def __init__(self, config: KokoroConfig) -> None:
        super().__init__()
        self.fft_size, self.hop, self.count = config.fft_size, config.hop, len(config.kernels)
        self.m_source = Source(config, math.prod(config.upsampling) * config.hop)
        self.ups, self.noise_convs = nn.ModuleList(), nn.ModuleList()
        self.noise_res, self.resblocks = nn.ModuleList(), nn.ModuleList()
        channels = config.decoder_size // 2
        bins = config.fft_size + 2
        for stage, (rate, kernel) in enumerate(
            zip(config.upsampling, config.upsampling_kernels, strict=True)
        ):
            self.ups.append(Upsampling(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2))
            channels //= 2
            left = math.prod(config.upsampling[stage + 1 :])
            self.noise_convs.append(
                Convolution(bins, channels, 2 * left, stride=left, padding=(left + 1) // 2)
                if left > 1
                else Convolution(bins, channels, 1)
            )
            args = (config.dilations, config.style_size)
            self.noise_res.append(SnakeBlock(channels, config.noise_kernels[stage], *args))
            self.resblocks.extend(SnakeBlock(channels, kernel, *args) for kernel in config.kernels)
        self.conv_post = Convolution(channels, bins, 7)
        self.register_buffer("window", torch.hann_window(config.fft_size), persistent=False)

    def forward(
        self, x_BC1T: Tensor, style_BS: Tensor, pitch_P: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Samples (N,), float32; ``pitch_P`` in hertz, float32."""
        source_N = self.m_source(pitch_P, generator)
        spectrum_FT = torch.stft(source_N, self.fft_size, self.hop, window=self.window, return_complex=True)
        source = torch.cat([spectrum_FT.abs(), spectrum_FT.angle()])[None, :, None].to(x_BC1T)
        source = source.contiguous(memory_format=torch.channels_last)
        for stage, upsample in enumerate(self.ups):
            x_BC1T = upsample(functional.leaky_relu(x_BC1T, 0.1))
            if stage == len(self.ups) - 1:
                x_BC1T = functional.pad(x_BC1T, (1, 0, 0, 0), mode="reflect")
                x_BC1T = x_BC1T.contiguous(memory_format=torch.channels_last)
            x_BC1T = x_BC1T + self.noise_res[stage](self.noise_convs[stage](source), style_BS)
            blocks = self.resblocks[stage * self.count : (stage + 1) * self.count]
            parts = [block(x_BC1T, style_BS) for block in blocks]
            x_BC1T = sum(parts[1:], parts[0]) / self.count
        shape_FT = self.conv_post(functional.leaky_relu(x_BC1T))[0, :, 0].float()
        bins = self.fft_size // 2 + 1
        spectrum_FT = torch.polar(shape_FT[:bins].exp(), torch.sin(shape_FT[bins:]))
        return torch.istft(spectrum_FT, self.fft_size, self.hop, window=self.window)


class Decoder(nn.Module):
    """What is said in each frame, its pitch and its energy -> samples."""

    def __init__(self, config: KokoroConfig) -> None:
        super().__init__()
        width, style = config.decoder_size, config.style_size
        joined = width + config.residual_size + 2
        self.encode = StyleBlock(config.hidden_size + 2, width, style)
        self.decode = nn.ModuleList(StyleBlock(joined, width, style) for _ in range(3))
        self.decode.append(StyleBlock(joined, width // 2, style, upsample=True))
        self.F0_conv, self.N_conv = (Convolution(1, 1, 3, stride=2, padding=1) for _ in range(2))
        self.asr_res = Convolution(config.hidden_size, config.residual_size, 1)
        self.generator = Generator(config)

    def forward(
        self,
        text_BC1T: Tensor,
        pitch_P: Tensor,
        energy_P: Tensor,
        style_BS: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Samples (N,), float32."""
        curves = [
            convolve(curve_P.to(text_BC1T)[None, None, None])
            for convolve, curve_P in ((self.F0_conv, pitch_P), (self.N_conv, energy_P))
        ]
        kept = self.asr_res(text_BC1T)
        x = self.encode(torch.cat([text_BC1T, *curves], dim=1), style_BS)
        for block in self.decode:
            x = block(torch.cat([x, kept, *curves], dim=1), style_BS)
        return self.generator(x, style_BS, pitch_P.float(), generator)
