"""Image similarity of frames: PSNR, SSIM and, where its weights are installed, LPIPS.

All take (H, W, 3) uint8. Papers differ in how they apply SSIM and rarely say so; both usual ways are here. torchmetrics
gives the same PSNR, but its SSIM counts a border that it makes up; scikit-image's SSIM is this one, for one function.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

LARGEST_PSNR = 100.0  # of equal frames, so that means stay finite
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_LUMA = np.array([0.299, 0.587, 0.114])
_ALEXNET = "alexnet-owt-7be5be79.pth"

Distance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]


def psnr(frame_HW3: NDArray[np.uint8], truth_HW3: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, of 255; at most `LARGEST_PSNR`."""
    _check(frame_HW3, truth_HW3)
    error = np.square(frame_HW3.astype(np.float64) - truth_HW3).mean()
    return LARGEST_PSNR if error == 0 else min(LARGEST_PSNR, float(10 * np.log10(255**2 / error)))


def ssim(frame_HW3: NDArray[np.uint8], truth_HW3: NDArray[np.uint8]) -> float:
    """Structural similarity (Wang et al., 2004), mean of the channels: 11 x 11 Gaussian of 1.5, whole windows only."""
    _check(frame_HW3, truth_HW3)
    return _similarity(frame_HW3.astype(np.float64), truth_HW3.astype(np.float64))


def ssim_luma(frame_HW3: NDArray[np.uint8], truth_HW3: NDArray[np.uint8]) -> float:
    """As `ssim`, on luma alone: 0.299 R + 0.587 G + 0.114 B, not rounded."""
    _check(frame_HW3, truth_HW3)
    return _similarity(frame_HW3 @ _LUMA, truth_HW3 @ _LUMA)


def lpips_distance() -> tuple[Distance | None, str]:
    """(LPIPS on AlexNet, "") or (None, what is missing). Nothing is fetched."""
    import torch

    if importlib.util.find_spec("lpips") is None:
        return None, "no LPIPS: pip install 'multiway-event-vision[perceptual]'"
    weights = Path(torch.hub.get_dir(), "checkpoints", _ALEXNET)
    if not weights.is_file():
        return None, f"no LPIPS: AlexNet's weights are not at {weights}"
    import lpips

    network = lpips.LPIPS(net="alex", verbose=False).eval()

    def distance(frame_HW3: NDArray[np.uint8], truth_HW3: NDArray[np.uint8]) -> float:
        _check(frame_HW3, truth_HW3)
        pair_23HW = torch.from_numpy(np.stack((frame_HW3, truth_HW3))).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.inference_mode():
            return float(network(pair_23HW[:1], pair_23HW[1:]))

    return distance, ""


def _check(frame_HW3: NDArray, truth_HW3: NDArray) -> None:
    if frame_HW3.shape != truth_HW3.shape or frame_HW3.dtype != np.uint8 or truth_HW3.dtype != np.uint8:
        raise InputError(
            f"a frame of {frame_HW3.shape} {frame_HW3.dtype} against {truth_HW3.shape} {truth_HW3.dtype}; "
            "expected equal shapes of uint8"
        )


def _similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    border = _WINDOW // 2
    if min(a.shape[:2]) < _WINDOW:
        raise InputError(f"frames of {a.shape[1]} x {a.shape[0]} pixels; SSIM needs {_WINDOW} or more a side")

    def mean(values: NDArray) -> NDArray:
        return cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA)[border:-border, border:-border]

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    above = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return float((above / ((mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2))).mean())
