"""PSNR and SSIM against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError
from multiway_event_vision.metrics.frame_quality import LARGEST_PSNR, psnr, ssim, ssim_luma


def pair(seed=0, height=40, width=53):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 256, (height, width, 3), np.uint8)
    noise = generator.normal(0, 12, truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8), truth


def tensors(*frames):
    return [torch.from_numpy(frame.astype(np.float64)).permute(2, 0, 1)[None] for frame in frames]


def test_psnr_is_torchmetrics():
    from torchmetrics.functional.image import peak_signal_noise_ratio

    frame, truth = pair()
    assert psnr(frame, truth) == pytest.approx(
        float(peak_signal_noise_ratio(*tensors(frame, truth), data_range=255.0)), abs=1e-4
    )
    assert psnr(truth, truth) == LARGEST_PSNR


def peer_ssim(frame, truth):
    from torchmetrics.functional.image import structural_similarity_index_measure

    """torchmetrics' map without its border, where it makes up what lies outside; Wang et al. leave that out too."""
    _, whole = structural_similarity_index_measure(
        *tensors(frame, truth), sigma=1.5, kernel_size=11, data_range=255.0, return_full_image=True
    )
    return float(whole[..., 5:-5, 5:-5].mean())


def test_ssim_is_torchmetrics():
    frame, truth = pair()
    assert ssim(frame, truth) == pytest.approx(peer_ssim(frame, truth), abs=1e-6)
    assert ssim(truth, truth) == pytest.approx(1.0)


def test_ssim_on_luma():
    frame, truth = pair()
    weights = np.array([0.299, 0.587, 0.114])
    luma = [(image @ weights)[..., None] for image in (frame, truth)]
    assert ssim_luma(frame, truth) == pytest.approx(peer_ssim(*luma), abs=1e-6)


def test_what_cannot_be_compared():
    frame, truth = pair()
    for metric in (psnr, ssim, ssim_luma):
        with pytest.raises(InputError, match="equal shapes of uint8"):
            metric(frame, truth[:-1])
        with pytest.raises(InputError, match="equal shapes of uint8"):
            metric(frame / 255, truth / 255)
    with pytest.raises(InputError, match="SSIM needs 11"):
        ssim(frame[:8], truth[:8])
