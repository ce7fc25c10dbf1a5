"""Filter banks on the mel scale, made by torchaudio, in the two forms that the networks here were trained with.

Spectra come from ``torch.stft`` and ``torch.fft`` where they are used: ``torchaudio.transforms.MelSpectrogram`` hears a
recording at once, while encoders here take it piece by piece, and it takes a square root only to square it again.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=32)
def mean_filters(fft_size: int, num_mels: int, sample_rate: int, device: torch.device) -> Tensor:
    """Triangles (K, M) on HTK's mel scale, each with the sum 1 over the frequencies: a band is a mean of magnitudes.

    The lowest triangles may be narrower than a frequency: such a band is the frequency nearest to its middle.
    """
    with torch.inference_mode(False):  # whoever asks first, training may use them later
        filters_KM = _torchaudio_filters(fft_size, num_mels, sample_rate, None, "htk")
        top = math.log10(1 + sample_rate / 2 / 700)
        middles_M = 700 * (10 ** torch.linspace(0, top, num_mels + 2, dtype=torch.float64)[1:-1] - 1)
        empty_M = filters_KM.sum(0) < 0.1
        nearest_M = (middles_M * fft_size / sample_rate).round().long()
        filters_KM[nearest_M[empty_M], torch.arange(num_mels)[empty_M]] = 1.0
        return (filters_KM / filters_KM.sum(0)).to(device)


@lru_cache(maxsize=8)
def area_filters(fft_size: int, num_mels: int, sample_rate: int) -> Tensor:
    """Triangles (K, M) of equal area on Slaney's mel scale, as Whisper and librosa have them."""
    with torch.inference_mode(False):
        return _torchaudio_filters(fft_size, num_mels, sample_rate, "slaney", "slaney")


def _torchaudio_filters(
    fft_size: int, num_mels: int, sample_rate: int, norm: str | None, scale: str
) -> Tensor:
    from torchaudio.functional import (
        melscale_fbanks,
    )  # a fifth of a second, which most commands need not spend

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about triangles narrower than a frequency
        return melscale_fbanks(
            fft_size // 2 + 1, 0.0, sample_rate / 2, num_mels, sample_rate, norm=norm, mel_scale=scale
        )
