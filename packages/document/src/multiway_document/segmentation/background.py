"""Background removal: dark ink on an even white background."""

from __future__ import annotations

import cv2
import numpy as np

from multiway_document.segmentation.arrays import GreyImage

PAPER = 200.0
"""Grey level of the paper in a flattened page."""

_BACKGROUND_REDUCTION = 8  # the paper's brightness varies slowly: an eighth of the resolution shows it
_BACKGROUND_WINDOW = 31  # in reduced pixels; must be larger than any letter, smaller than a lamp's gradient
_IMPULSE_STEP = 60  # grey levels by which a lone pixel must differ from all its neighbours to be an impulse
_IMPULSE_SHARE = 0.004  # clean text stays below 0.001, 2 % salt and pepper lies above 0.006
_SMOOTH_FROM = 8.0  # noise in grey levels of a flattened page
_MAX_NOISE = 30.0  # grey levels; contrast is not raised so far that the noise would exceed it
_MAX_GAIN = 12.0  # a fainter page is taken as empty: more gain would only show the sensor's noise


def to_grey(image: np.ndarray) -> GreyImage:
    """(H, W) or (H, W, 3) RGB uint8 -> (H, W) uint8 luminance, without a copy where there is none to make."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"expected (H, W) or (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if image.size == 0:
        raise ValueError("expected at least one pixel")
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def remove_impulses(grey: GreyImage) -> tuple[GreyImage, bool]:
    """Salt-and-pepper noise replaced by the 3x3 median, where there is any; and whether there was.

    An impulse differs from its whole 8-neighbourhood, in one direction, which strokes never do. If a page has
    them, then pairs go too: every pixel with at most one neighbour of about its own grey. Thin strokes stay.
    """
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    pepper = np.count_nonzero(cv2.subtract(cv2.erode(grey, ring), grey) > _IMPULSE_STEP)
    salt = np.count_nonzero(cv2.subtract(grey, cv2.dilate(grey, ring)) > _IMPULSE_STEP)
    if max(pepper, salt) < _IMPULSE_SHARE * grey.size:
        return grey, False
    for _ in range(2):  # the second time takes what is left of chains of three
        grey = _without_lone_pixels(grey, ring)
    return grey, True


def _without_lone_pixels(grey: GreyImage, ring: np.ndarray) -> GreyImage:
    framed = np.pad(grey, 1, mode="edge")
    height, width = grey.shape
    alike = np.zeros(grey.shape, np.uint8)
    for dy, dx in zip(*np.nonzero(ring), strict=True):
        alike += cv2.absdiff(framed[dy : dy + height, dx : dx + width], grey) < _IMPULSE_STEP
    median = cv2.medianBlur(grey, 3)
    lone = (alike <= 1) & (cv2.absdiff(median, grey) > _IMPULSE_STEP // 2)
    return np.where(lone, median, grey)


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
    """Even lighting and full contrast: (H, W) uint8, the darkest ink near 0, the paper around ``PAPER``.

    The page is divided by its :func:`background` (a shadow multiplies what the paper reflects), then
    stretched between the darkest thousandth and the paper. The levels above PAPER are left for the paper's
    noise, which must not be clipped before it has been measured; :func:`whiten` does away with them.
    """
    if is_inverted(grey):
        grey = cv2.bitwise_not(grey)
    even = cv2.divide(grey, background(grey), scale=PAPER)
    below = np.cumsum(np.bincount(even.ravel(), minlength=256)) / even.size
    paper = float(np.searchsorted(below, 0.5))
    noise = float(np.median(noise_map(even)))
    ink = float(np.searchsorted(below, 0.001)) + 1.5 * noise
    gain = min(_MAX_GAIN, PAPER / max(1.0, paper - ink), max(1.0, _MAX_NOISE / max(noise, 1e-3)))
    levels = np.clip(PAPER + (np.arange(256) - paper) * gain, 0, 255).astype(np.uint8)
    return cv2.LUT(even, levels)


def whiten(page: GreyImage, noise: float) -> GreyImage:
    """A flattened page with its paper, up to one standard deviation of the noise, at 255."""
    white = PAPER - min(noise, 60.0)
    return cv2.LUT(page, np.clip(np.arange(256) * (255.0 / white), 0, 255).astype(np.uint8))


def smooth_noise(page: GreyImage, noise: np.ndarray) -> tuple[GreyImage, np.ndarray]:
    """A noisy flattened page made easier to threshold, and the noise that is left; a clean one as it is."""
    if np.median(noise) < _SMOOTH_FROM:
        return page, noise
    return cv2.GaussianBlur(page, (0, 0), 1.0), noise * 0.28  # 1 / sqrt(4 pi) = 0.28 of white noise passes


def noise_map(page: GreyImage) -> np.ndarray:
    """Standard deviation of the pixel noise (after Immerkaer 1996), float32, one value per 8x8 pixels.

    Where a page was dark, flattening has amplified the noise, so one figure would not do. Each value comes
    from the quietest block within some 40 pixels, which lies between the letters.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.convertScaleAbs(cv2.filter2D(page, cv2.CV_16S, kernel), alpha=0.25)
    size = (max(1, page.shape[1] // 8), max(1, page.shape[0] // 8))
    blocks = cv2.resize(response, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    quiet = cv2.erode(blocks, np.ones((11, 11), np.uint8))
    # A mean absolute response is 0.8 standard deviations, the kernel's gain 6, and the minimum lies 25 % low.
    return quiet * (4.0 / 0.8 / 6.0 * 1.25)
