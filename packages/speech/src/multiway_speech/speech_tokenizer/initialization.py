"""Initialization of the small tokenizer by principal components and least squares on some minutes of speech.

Random weights take thousands of steps to become as good as linear algebra. The paths beside the residual branches are
linear, so they can be set: the encoder packs the log-mel columns of a frame side by side and projects them on their
principal components; the decoder goes the same way back, and predicts log-magnitudes by least squares from the columns.
Phases begin at zero, a pulse a window: speech as from a monotone vocoder. Training starts from there.

Shape suffixes: N columns or frames, M mels, P packed columns of a frame, D latent size, K frequencies.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from multiway_blocks.causal_conv import CausalConv1d, CausalConvTranspose1d
from torch import Tensor, nn

from multiway_speech.speech_tokenizer.model import AcousticTokenizer
from multiway_speech.speech_tokenizer.spectral import (
    SpectralDecoder,
    SpectralEncoder,
    hann,
    log_mel,
    standardized,
)

RIDGE = 1e-2
FLOOR = 1e-2


@torch.no_grad()
def initialize(tokenizer: AcousticTokenizer, waveforms: Iterable[Tensor]) -> float:
    """Set the linear paths, in place, from waveforms (T,) of speech at -25 dBFS. The share of variance that is kept.

    Latents have a mean square of 1; a component's spread is the square root of what it has in the spectrum, so that
    noise of one size hurts strong components less. Raises ValueError where the widths are too small for the packing.
    """
    encoder, decoder, config = tokenizer.encoder, tokenizer.decoder, tokenizer.config
    assert isinstance(encoder, SpectralEncoder)
    assert isinstance(decoder, SpectralDecoder)
    mels, widths = encoder.config.num_mels, config.widths or ()
    packed = [mels]
    for ratio in config.ratios:
        packed.append(packed[-1] * ratio)
    if not widths or any(size > width for size, width in zip(packed, widths, strict=True)):
        raise ValueError(f"columns packed to {packed} channels do not fit into the widths {list(widths)}")
    columns, magnitudes = _statistics(encoder, decoder, waveforms)
    mean_M = torch.cat(columns).mean(0)
    columns = [column_NM - mean_M for column_NM in columns]
    frame = packed[-1] // mels
    frames_NP = torch.cat([c[: len(c) // frame * frame].reshape(-1, packed[-1]) for c in columns])
    mean_P = frames_NP.mean(0)
    spread_P, basis_PP = torch.linalg.eigh(torch.cov(frames_NP.T))
    spread_D = spread_P.flip(0)[: config.latent_size].clamp_min(1e-8).sqrt()
    basis_PD = basis_PP.flip(1)[:, : config.latent_size]
    scale_D = spread_D.sqrt()
    scale_D = scale_D * (spread_D / scale_D).square().mean().sqrt()

    _last_tap(encoder.trunk.stem, torch.eye(mels), -mean_M)
    size = mels
    for layer, ratio in zip(encoder.trunk.downsample, config.ratios, strict=True):
        assert isinstance(layer, CausalConv1d)
        _pack(layer, size, ratio)
        size *= ratio
    _last_tap(encoder.trunk.head, (basis_PD / scale_D).T, -(mean_P @ basis_PD) / scale_D)
    _last_tap(decoder.trunk.stem, basis_PD * scale_D, mean_P)
    for layer, ratio in zip(decoder.trunk.upsample, config.ratios[::-1], strict=True):
        assert isinstance(layer, CausalConvTranspose1d)
        _unpack(layer, size // ratio, ratio)
        size //= ratio
    _last_tap(decoder.trunk.head, torch.eye(mels), torch.zeros(mels))
    inputs = torch.cat([torch.cat(columns), torch.ones(sum(map(len, columns)), 1)], dim=1).double()
    gram = inputs.T @ inputs + RIDGE * len(inputs) * torch.eye(mels + 1, dtype=torch.float64)
    solution = torch.linalg.solve(gram, inputs.T @ torch.cat(magnitudes).double()).float()
    bins = solution.shape[1]
    decoder.head.weight.mul_(0.1)
    decoder.head.weight[:, :mels] = 0
    decoder.head.weight[:bins, :mels] = solution[:-1].T
    decoder.head.bias.zero_()
    decoder.head.bias[:bins] = solution[-1]
    return float(spread_D.square().sum() / spread_P.sum())


def _statistics(
    encoder: SpectralEncoder, decoder: SpectralDecoder, waveforms: Iterable[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Standardized log-mel columns (N, M), and log-magnitudes (N, K) of the decoder's windows at the same places."""
    ours, theirs = encoder.config, decoder.config
    before = ours.mel_fft_size - ours.hop - encoder.lookahead
    columns, magnitudes = [], []
    for waveform_T in waveforms:
        heard = torch.nn.functional.pad(waveform_T[None], (before, encoder.lookahead))
        mel = log_mel(
            heard,
            fft_size=ours.mel_fft_size,
            hop=ours.hop,
            num_mels=ours.num_mels,
            sample_rate=encoder.sample_rate,
        )[0].T
        windows = torch.nn.functional.pad(waveform_T, (0, theirs.fft_size)).unfold(
            -1, theirs.fft_size, theirs.hop
        )
        spectrum = torch.fft.rfft(windows[: len(mel)] * hann(theirs.fft_size, windows.device))
        columns.append(standardized(mel[: len(spectrum)]))
        magnitudes.append((spectrum.abs() + FLOOR).log())
    return columns, magnitudes


def _last_tap(layer: CausalConv1d, matrix: Tensor, bias: Tensor) -> None:
    """The first outputs become ``matrix`` times the newest column's first inputs."""
    assert layer.conv.bias is not None
    rows, columns = matrix.shape
    layer.conv.weight[:rows] = 0
    layer.conv.weight[:rows, :columns, -1] = matrix
    _bias(layer)[:rows] = bias


def _pack(layer: nn.Module, channels: int, ratio: int) -> None:
    """The newest ``ratio`` columns stand one after the other in the first outputs."""
    assert isinstance(layer, CausalConv1d)
    assert layer.conv.bias is not None
    layer.conv.weight[: channels * ratio] = 0
    for place in range(ratio):
        rows = torch.arange(channels) + place * channels
        layer.conv.weight[rows, torch.arange(channels), place - ratio] = 1
    _bias(layer)[: channels * ratio] = 0


def _unpack(layer: nn.Module, channels: int, ratio: int) -> None:
    """The inverse of :func:`_pack`: an input becomes ``ratio`` columns, and says nothing in those after them."""
    assert isinstance(layer, CausalConvTranspose1d)
    assert layer.conv.bias is not None
    layer.conv.weight[:, :channels] = 0
    for place in range(ratio):
        rows = torch.arange(channels) + place * channels
        layer.conv.weight[rows, torch.arange(channels), place] = 1
    _bias(layer)[:channels] = 0


def _bias(layer: CausalConv1d | CausalConvTranspose1d) -> Tensor:
    assert layer.conv.bias is not None
    return layer.conv.bias
