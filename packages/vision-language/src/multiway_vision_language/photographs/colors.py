"""The colour of a thing in a box: shares of eleven basic colours among its pixels, less what lies around it.

Shape suffixes: N pixels, K colours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from multiway_vision_language.photographs.words import COLORS
from multiway_vision_language.result import XYXY

_SIDE = 48
_AROUND = 0.25  # of the box's sides
_BINS = 6
_HUES = (("red", 345, 375), ("orange", 15, 40), ("yellow", 40, 68), ("green", 68, 168), ("blue", 168, 258),
         ("purple", 258, 292), ("pink", 292, 345))  # fmt: skip
# What people also call by a colour: brown horses are partly orange, white buses partly gray.
_ALSO: dict[str, dict[str, float]] = {
    "black": {"gray": 0.25, "brown": 0.1, "blue": 0.05},
    "white": {"gray": 0.5, "pink": 0.2, "yellow": 0.15, "blue": 0.15},
    "gray": {"white": 0.35, "black": 0.35, "blue": 0.2, "brown": 0.1},
    "brown": {"orange": 0.7, "red": 0.2, "yellow": 0.3, "black": 0.25, "gray": 0.1},
    "red": {"pink": 0.4, "orange": 0.3, "brown": 0.2},
    "orange": {"red": 0.4, "yellow": 0.4, "brown": 0.4},
    "yellow": {"orange": 0.5, "brown": 0.15, "green": 0.1},
    "green": {"yellow": 0.1, "blue": 0.05, "black": 0.05},
    "blue": {"purple": 0.4, "gray": 0.1, "black": 0.05},
    "purple": {"pink": 0.4, "blue": 0.25},
    "pink": {"red": 0.3, "purple": 0.4, "white": 0.05},
}
_MATRIX_KK = np.array(
    [[1.0 if own == other else _ALSO[own].get(other, 0.0) for other in COLORS] for own in COLORS]
)
_STEEPNESS, _MIDDLE = 8.0, 0.4


def color_chances(image: Image.Image, box: XYXY) -> NDArray[np.float64]:
    """(K,) of :data:`COLORS`: how likely people would say each of what is in the box; several may be likely."""
    shares_K = _shares(image, box)
    scores_K = _MATRIX_KK @ shares_K
    # Of things of two colours both are said.
    return (
        1 / (1 + np.exp(-_STEEPNESS * (scores_K / max(scores_K.max(), 1e-6) - _MIDDLE))) * _enough(scores_K)
    )


def _enough(scores_K: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(scores_K / 0.2, 0, 1)


def _shares(image: Image.Image, box: XYXY) -> NDArray[np.float64]:
    left, top, right, bottom = box
    across, down = _AROUND * (right - left), _AROUND * (bottom - top)
    around = (
        max(0, left - across),
        max(0, top - down),
        min(image.width, right + across),
        min(image.height, bottom + down),
    )
    if around[2] - around[0] < 1 or around[3] - around[1] < 1:
        return np.full(len(COLORS), 1 / len(COLORS))
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=around)
    pixels_N3 = np.asarray(small).reshape(-1, 3)
    steps = (np.arange(_SIDE) + 0.5) / _SIDE
    x = around[0] + steps * (around[2] - around[0])
    y = around[1] + steps * (around[3] - around[1])
    # -1 to 1 inside the box
    u, v = np.meshgrid((2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top))
    inside_N = (np.maximum(np.abs(u), np.abs(v)) <= 1).ravel()
    weights_N = np.exp(-1.5 * (u**2 + v**2)).ravel() * inside_N
    bins_N = ((pixels_N3 // (256 // _BINS + 1)).astype(int) * (1, _BINS, _BINS**2)).sum(1)
    own = np.bincount(bins_N, weights_N, minlength=_BINS**3)
    other = np.bincount(bins_N, ~inside_N, minlength=_BINS**3)
    if other.sum() > 0:
        own_share, other_share = own / max(own.sum(), 1e-9), other / other.sum()
        weights_N = weights_N * (own_share / (own_share + 0.7 * other_share + 1e-9))[bins_N]
    labels_N = _labels(pixels_N3)
    shares_K = np.bincount(labels_N, weights_N, minlength=len(COLORS))
    return shares_K / max(shares_K.sum(), 1e-9)


def _labels(pixels_N3: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The basic colour of every pixel."""
    square = Image.fromarray(np.ascontiguousarray(pixels_N3[None]))
    hue_N, saturation_N, value_N = np.asarray(square.convert("HSV"))[0].astype(float).T / 255
    hue_N = hue_N * 360
    number = {name: place for place, name in enumerate(COLORS)}
    labels_N = np.full(len(pixels_N3), number["gray"])
    for name, low, high in _HUES:
        labels_N[((hue_N >= low) & (hue_N < high)) | (hue_N + 360 < high)] = number[name]
    warm = (hue_N < 45) | (hue_N >= 345)
    labels_N[warm & (hue_N >= 10) & (hue_N < 45) & (value_N < 0.65) & (saturation_N < 0.85)] = number["brown"]
    labels_N[warm & (value_N < 0.4)] = number["brown"]
    labels_N[((hue_N >= 330) | (hue_N < 15)) & (saturation_N < 0.5) & (value_N > 0.7)] = number["pink"]
    pale = saturation_N < 0.16 + 0.12 * (value_N < 0.5)
    labels_N[pale] = number["gray"]
    labels_N[pale & (value_N > 0.68)] = number["white"]
    labels_N[(value_N < 0.22) | (pale & (value_N < 0.3))] = number["black"]
    return labels_N
