"""What paper, printers, cameras and file formats do to text: random degradations of a grey image.

Every step is one small function ``step(image, rng, x_height) -> image`` on uint8 (height, width), dark ink on
white. ``x_height`` (pixels) is the size of the text, so that blur, tears and rules suit it. :data:`STEPS`
lists them in the order in which they happen to a page, each with its own probability.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

Rng = np.random.Generator
Step = Callable[[np.ndarray, Rng, float], np.ndarray]

CLEAN_SHARE = 0.25


@lru_cache(maxsize=2)
def _noise_tile(kind: str) -> np.ndarray:
    """A fixed tile of noise to cut random windows from: drawing fresh noise would cost more than the text
    itself.
    """
    rng = np.random.default_rng(13)
    if kind == "normal":
        return np.clip(np.rint(rng.standard_normal((512, 4096), np.float32) * 32), -127, 127).astype(np.int8)
    return rng.integers(0, 1 << 16, (512, 4096), np.uint16)


def _noise(kind: str, shape: tuple[int, int], rng: Rng) -> np.ndarray:
    tile = _noise_tile(kind)
    height, width = shape
    repeats = (-(-height // tile.shape[0]) + 1, -(-width // tile.shape[1]) + 1)
    if repeats != (2, 2):
        tile = np.tile(tile, repeats)
    y, x = int(rng.integers(0, tile.shape[0] - height)), int(rng.integers(0, tile.shape[1] - width))
    window = tile[y : y + height, x : x + width]
    return window[:, ::-1] if rng.random() < 0.5 else window


def add_normal_noise(image: np.ndarray, rng: Rng, sigma: float) -> np.ndarray:
    """Gaussian noise of ``sigma`` grey levels."""
    noise = _noise("normal", image.shape, rng)
    return (
        cv2.scaleAdd(noise.astype(np.float32), sigma / 32, image.astype(np.float32))
        .clip(0, 255)
        .astype(np.uint8)
    )


def add_salt_and_pepper(image: np.ndarray, rng: Rng, share: float) -> np.ndarray:
    """``share`` of the pixels become black or white, half and half."""
    noise = _noise("uniform", image.shape, rng)
    result = image.copy()
    result[noise < share * 32768] = 0
    result[noise > 65535 - share * 32768] = 255
    return result


def ink_and_paper(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Grey ink on grey paper."""
    paper, ink = rng.uniform(150, 255), rng.uniform(0, 110)
    if paper - ink < 60:
        ink = paper - 60
    return cv2.convertScaleAbs(image, alpha=(paper - ink) / 255, beta=ink)


def invert(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """White on black."""
    return cv2.bitwise_not(image)


def ruled_lines(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Horizontal rules of a form or exercise book, full or dotted; now and then vertical cell borders."""
    result = image.copy()
    height, width = image.shape
    grey = int(rng.integers(0, 190))
    thickness = max(1, round(rng.uniform(0.05, 0.16) * x_height))
    spacing = max(8, int(rng.uniform(2.2, 4.5) * x_height))
    rows = range(int(rng.integers(spacing)), height, spacing)
    if rng.random() < 0.25:
        period = int(rng.integers(2, 7))
        for y in rows:
            view = result[y : y + thickness]
            for offset in range(max(1, period // 3)):
                view[:, offset::period] = np.minimum(view[:, offset::period], grey)
    else:
        for y in rows:
            np.minimum(result[y : y + thickness], grey, out=result[y : y + thickness])
    if rng.random() < 0.25:
        for x in rng.integers(0, width, size=1 + width // 600):
            np.minimum(result[:, x : x + thickness], grey, out=result[:, x : x + thickness])
    return result


def bleed_through(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """The back of the sheet shines through: the page mirrored, shifted, blurred and faint."""
    back = cv2.blur(cv2.flip(image, 1), (3, 3))
    back = np.roll(back, (int(rng.integers(image.shape[0])), int(rng.integers(image.shape[1]))), axis=(0, 1))
    strength = rng.uniform(0.06, 0.3)
    back = cv2.convertScaleAbs(back, alpha=strength, beta=255 * (1 - strength))
    return cv2.min(image, back)


def _warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    size = (image.shape[1], image.shape[0])
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def rotate(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """N(0, 0.7 degrees), but no more drift across a wide strip than an eighth of its height."""
    height, width = image.shape
    limit = np.degrees(np.arctan2(0.12 * height, width))
    angle = float(np.clip(rng.normal(0, 0.7), -limit, limit))
    return _warp(image, cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0))


def shear(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Slant of up to 3 degrees."""
    slope = np.tan(np.radians(rng.uniform(-3, 3)))
    return _warp(image, np.array([[1, slope, -slope * image.shape[0] / 2], [0, 1, 0]], np.float32))


def perspective(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Corners moved by up to 2 % of the height (a strip keeps its line within the crop)."""
    height, width = image.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = (corners + rng.uniform(-0.02, 0.02, (4, 2)) * [min(width, 4 * height), height * 2]).astype(
        np.float32
    )
    matrix = cv2.getPerspectiveTransform(corners, moved)
    return cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def elastic(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Smooth displacement of about 0.05 x-heights (0.5 pixels of text of ordinary size)."""
    height, width = image.shape
    cell = max(4.0, 1.5 * x_height)
    coarse = (max(2, int(width / cell)), max(2, int(height / cell)))
    amplitude = 0.07 * x_height
    shift = rng.standard_normal((2, coarse[1], coarse[0])).astype(np.float32) * amplitude
    dx, dy = (cv2.resize(s, (width, height), interpolation=cv2.INTER_LINEAR) for s in shift)
    dx += np.arange(width, dtype=np.float32)
    dy += np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(image, dx, dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def thicken(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Ink spreads by about a pixel (less on small text, which it would fill)."""
    spread = cv2.erode(image, np.ones((2, 2) if rng.random() < 0.6 or x_height < 9 else (3, 3), np.uint8))
    share = float(np.clip((x_height - 3) / 10, 0.2, 0.9)) * rng.uniform(0.4, 1)
    return cv2.addWeighted(spread, share, image, 1 - share, 0)


def thin(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Ink shrinks by a pixel, in part, so that thin strokes grow faint and do not vanish."""
    shrunk = cv2.dilate(image, np.ones((2, 2), np.uint8))
    share = float(np.clip(x_height / 14, 0.2, 0.7)) * rng.uniform(0.4, 1)
    return cv2.addWeighted(shrunk, share, image, 1 - share, 0)


def fade(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """A worn thermal print: ink fades in patches or in vertical bands, single dots and rows are missing."""
    height, width = image.shape
    ink = 255 - image.astype(np.float32)
    if rng.random() < 0.6:
        coarse = rng.uniform(
            0.25, 1.25, (max(2, int(height / (3 * x_height))), max(2, int(width / (3 * x_height))))
        )
    else:
        coarse = rng.uniform(0.3, 1.25, (1, max(2, int(width / (1.5 * x_height)))))
    ink *= np.minimum(
        cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR), 1
    )
    if rng.random() < 0.5:
        ink *= _noise("uniform", image.shape, rng) > 65535 * rng.uniform(0.05, 0.35)
    if rng.random() < 0.2:
        ink[int(rng.integers(height)) :: max(5, int(x_height))] *= rng.uniform(0, 0.5)
    return (255 - ink).astype(np.uint8)


def thermal_print(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """The dots of a receipt printer: black or white, 9 to 16 to an x-height, some too cool to mark the paper.

    Thin strokes break where they fall between two dots or where a dot stays cool.
    """
    height, width = image.shape
    factor = rng.uniform(9, 16) / x_height
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    dots = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    dots = add_normal_noise(dots, rng, rng.uniform(5, 45))
    if rng.random() < 0.3:  # a worn head: whole columns of dots are weak
        weak = rng.random(size[0]) < rng.uniform(0.02, 0.12)
        dots[:, weak] = np.maximum(dots[:, weak], int(rng.integers(60, 200)))
    marked = cv2.threshold(dots, rng.uniform(80, 190), 255, cv2.THRESH_BINARY)[1]
    spread = cv2.GaussianBlur(marked, (0, 0), rng.uniform(0.35, 0.8))
    return cv2.resize(
        spread, (width, height), interpolation=cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR
    )


def sharpen(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """What scanners and telephones do of their own accord: unsharp masking, which leaves a bright seam around ink."""
    soft = cv2.GaussianBlur(image, (0, 0), max(0.5, rng.uniform(0.08, 0.25) * x_height))
    amount = rng.uniform(0.4, 2.2)
    return cv2.addWeighted(image, 1 + amount, soft, -amount, 0)


def resample(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Down to 0.45-1.0 of the size (never below an x-height of 4 pixels) and up again."""
    factor = max(rng.uniform(0.45, 1.0), 4.2 / x_height)
    if factor >= 1:
        return image
    height, width = image.shape
    small_size = (max(1, round(width * factor)), max(1, round(height * factor)))
    down = cv2.INTER_AREA if rng.random() < 0.7 else cv2.INTER_LINEAR
    small = cv2.resize(image, small_size, interpolation=down)
    up = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[int(rng.choice(3, p=[0.45, 0.45, 0.1]))]
    return cv2.resize(small, (width, height), interpolation=up)


def blur(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Gaussian of sigma up to 0.12 x-heights, or motion along one axis."""
    if rng.random() < 0.2:
        length = max(2, round(rng.uniform(0.1, 0.35) * x_height))
        return cv2.blur(image, (length, 1) if rng.random() < 0.5 else (1, length))
    sigma = max(0.3, rng.uniform(0.0, 0.13) * x_height)
    return cv2.GaussianBlur(image, (0, 0), sigma)


def noise(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Gaussian noise of up to 18 grey levels, sometimes up to 40."""
    return add_normal_noise(image, rng, rng.uniform(2, 18) if rng.random() < 0.85 else rng.uniform(18, 40))


def salt_and_pepper(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Up to 9 % of the pixels."""
    return add_salt_and_pepper(image, rng, rng.uniform(0.002, 0.09))


def illumination(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Light that falls off to 0.3-1 across the image, along any direction, straight or as a soft shadow."""
    height, width = image.shape
    low = rng.uniform(0.3, 0.95)
    if rng.random() < 0.7:
        grid = rng.uniform(low, 1.0, (2, 2))
    else:
        grid = rng.uniform(low, 1.0, (2, 5))
    light = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, light, dtype=cv2.CV_8U)


def low_contrast(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """Contrast of 0.15-1 around a random level, half of the time with noise in proportion."""
    contrast = 0.15 + 0.85 * rng.random() ** 1.5
    level = rng.uniform(0, 255 * (1 - contrast))
    result = cv2.convertScaleAbs(image, alpha=contrast, beta=level)
    return (
        add_normal_noise(result, rng, rng.uniform(0, 0.3) * contrast * 255) if rng.random() < 0.5 else result
    )


def jpeg(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """JPEG at quality 10-95."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(10, 96))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


def bilevel(image: np.ndarray, rng: Rng, x_height: float) -> np.ndarray:
    """A fax or black-and-white scan: one threshold between ink and paper."""
    low, high = (float(v) for v in np.percentile(image[:: max(1, image.shape[0] // 64)], [2, 60]))
    return cv2.threshold(image, low + (high - low) * rng.uniform(0.35, 0.75), 255, cv2.THRESH_BINARY)[1]


STEPS: tuple[tuple[float, Step], ...] = (
    (0.05, thicken), (0.08, thin), (0.07, ruled_lines), (0.05, bleed_through), (0.08, fade), (0.10, thermal_print),
    (0.25, ink_and_paper), (0.05, invert), (0.25, rotate), (0.10, shear), (0.06, perspective),
    (0.05, elastic), (0.30, resample), (0.35, blur), (0.12, sharpen), (0.15, low_contrast), (0.12, illumination),
    (0.40, noise), (0.08, salt_and_pepper), (0.22, jpeg), (0.10, bilevel),
)  # fmt: skip


def degrade(image: np.ndarray, rng: Rng, amount: float = 1.0, *, x_height: float = 10.0) -> np.ndarray:
    """A randomly degraded copy of a grey image.

    Args:
        image: uint8 (height, width), dark on white.
        amount: factor on every step's probability; 0 leaves the image as it is. A quarter of the images stay
            clean whatever the amount.
        x_height: height of a lower-case x in pixels.
    """
    if rng.random() < CLEAN_SHARE:
        return image
    for draw, (probability, step) in zip(rng.random(len(STEPS)), STEPS, strict=True):
        if draw < probability * amount:
            image = step(image, rng, x_height)
    return image
