"""Filter banks against their definitions, written out in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from multiway_speech.mel import area_filters, mean_filters

CPU = torch.device("cpu")


def triangles(corners: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """(M, K)."""
    slopes = frequencies - corners[:, None]
    rising, falling = slopes[:-2] / np.diff(corners)[:-1, None], -slopes[2:] / np.diff(corners)[1:, None]
    return np.minimum(rising, falling).clip(0)


@pytest.mark.parametrize(("fft_size", "num_mels"), [(1024, 80), (1024, 20), (512, 40), (512, 80)])
def test_a_band_on_htks_scale_is_a_mean(fft_size, num_mels) -> None:
    corners = 700 * (10 ** np.linspace(0, math.log10(1 + 8000 / 700), num_mels + 2) - 1)
    wanted_MK = triangles(corners, np.linspace(0, 8000, fft_size // 2 + 1))
    for band in np.flatnonzero(wanted_MK.sum(1) < 0.1):
        wanted_MK[band, round(corners[band + 1] * fft_size / 16_000)] = 1.0
    wanted_MK /= wanted_MK.sum(1, keepdims=True)
    found_KM = mean_filters(fft_size, num_mels, 16_000, CPU)
    np.testing.assert_allclose(found_KM.T, wanted_MK, atol=5e-6)
    assert found_KM.dtype == torch.float32


@pytest.mark.parametrize("num_mels", [40, 80, 128])
def test_bands_on_slaneys_scale_have_one_area(num_mels) -> None:
    corner, step = 1000.0, math.log(6.4) / 27
    mels = np.linspace(0, 15 + math.log(8) / step, num_mels + 2)
    corners = np.where(mels < 15, 200 / 3 * mels, corner * np.exp(step * (mels - 15)))
    wanted_MK = triangles(corners, np.linspace(0, 8000, 201)) * (2 / (corners[2:] - corners[:-2]))[:, None]
    np.testing.assert_allclose(area_filters(400, num_mels, 16_000).T, wanted_MK, atol=2e-7)


def test_filters_that_were_made_under_inference_mode_can_be_trained_with() -> None:
    with torch.inference_mode():
        filters_KM = mean_filters(256, 10, 16_000, CPU)
    weights = torch.ones(129, requires_grad=True)
    (weights @ filters_KM).sum().backward()
    assert weights.grad is not None
