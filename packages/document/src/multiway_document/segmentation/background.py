"""From any picture of a page to dark ink on an even white ground."""

from __future__ import annotations

import cv2
import numpy as np

from multiway_document.segmentation.arrays import GreyImage

_BACKGROUND_REDUCTION = 8  # the paper's brightness varies slowly: an eighth of the resolution shows it
_BACKGROUND_WINDOW = 31  # in reduced pixels; must be larger than any letter, smaller than a lamp's gradient
_IMPULSE_STEP = 60  # grey levels by which a lone pixel must differ from all its neighbours to be an impulse
_IMPULSE_SHARE = 0.004  # clean text stays below 0.001, 2 % salt and pepper lies above 0.006
_MAX_GAIN = 12.0  # a fainter page is taken as empty: more gain would only show the sensor's noise


def to_grey(image: np.ndarray) -> GreyImage:
    """(H, W) or (H, W, 3) RGB uint8 -> (H, W) uint8 luminance, without a copy where there is none to make."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"expected (H, W) or (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if image.size == 0:
        raise ValueError("expected at least one pixel")
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def remove_impulses(grey: GreyImage) -> tuple[GreyImage, bool]:
    """Salt-and-pepper noise taken out by a 3x3 median, only where it is found; and whether it was found.

    An impulse is a pixel that differs from its whole 8-neighbourhood in one direction, which strokes never
    do.
    """
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    pepper = np.count_nonzero(cv2.subtract(cv2.erode(grey, ring), grey) > _IMPULSE_STEP)
    salt = np.count_nonzero(cv2.subtract(grey, cv2.dilate(grey, ring)) > _IMPULSE_STEP)
    if max(pepper, salt) < _IMPULSE_SHARE * grey.size:
        return grey, False
    return cv2.medianBlur(grey, 3), True


def noise_level(grey: GreyImage) -> float:
    """Standard deviation of the pixel noise (Immerkaer 1996), in grey levels; its median ignores text."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    top, left = max(0, grey.shape[0] // 2 - 400), max(0, grey.shape[1] // 2 - 400)
    sample = np.ascontiguousarray(grey[top : top + 800, left : left + 800])
    response = cv2.filter2D(sample, cv2.CV_16S, kernel)[1:-1, 1:-1]
    return float(np.median(np.abs(response)) / 0.6745 / 6.0) if response.size else 0.0


def background(grey: GreyImage) -> GreyImage:
    """The brightness of the paper under the text, (H, W) uint8: the local median of local maxima."""
    height, width = grey.shape
    small_size = (max(1, width // _BACKGROUND_REDUCTION), max(1, height // _BACKGROUND_REDUCTION))
    small = cv2.resize(grey, small_size, interpolation=cv2.INTER_AREA)
    window = min(_BACKGROUND_WINDOW, 2 * (min(small_size) // 2) + 1)
    # The maximum over a few lines of text lies between the lines, on paper.
    paper = cv2.dilate(small, np.ones((5, 5), np.uint8))
    if window >= 3:
        paper = cv2.medianBlur(np.pad(paper, window // 2, mode="reflect"), window)
        edge = window // 2
        paper = paper[edge : edge + small.shape[0], edge : edge + small.shape[1]]
        paper = cv2.blur(paper, (5, 5), borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR)


def is_inverted(grey: GreyImage) -> bool:
    """Whether the text is lighter than its ground: the rarer pixels lie above the local median.

    The sign of the third moment of the deviation from the local mean tells, whatever the page's colours.
    """
    small = (
        cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) if min(grey.shape) > 64 else grey
    )
    ground = cv2.blur(small, (31, 31), borderType=cv2.BORDER_REFLECT)
    deviation = small.astype(np.float32) - ground
    return bool(np.mean(deviation**3) > 0) and float(np.median(grey)) < 160


def flatten(grey: GreyImage) -> GreyImage:
    """Even lighting and full contrast: (H, W) uint8, ink near 0, paper 255.

    The page is divided by its :func:`background` (a shadow multiplies what the paper reflects), then
    stretched between the darkest thousandth and the paper.
    """
    if is_inverted(grey):
        grey = cv2.bitwise_not(grey)
    even = cv2.divide(grey, background(grey), scale=245)
    return stretch(even, noise_level(even))


def stretch(even: GreyImage, noise: float) -> GreyImage:
    """Ink to 0 and paper to 255, where there is enough contrast over the ``noise`` to speak of ink."""
    counts = np.bincount(even.ravel(), minlength=256)
    below = np.cumsum(counts) / even.size
    paper = float(np.searchsorted(below, 0.5))
    ink = float(np.searchsorted(below, 0.001)) + 1.5 * noise
    paper -= 1.0 * noise
    gain = min(_MAX_GAIN, 255.0 / max(1.0, paper - ink))
    levels = np.clip(255.0 + (np.arange(256) - paper) * gain, 0, 255).astype(np.uint8)
    return cv2.LUT(even, levels)
