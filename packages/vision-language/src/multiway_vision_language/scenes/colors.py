"""The colour of a cut-out in words, and cut-outs painted in a colour."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image

# Hue in degrees and saturation of the paint; black, white and gray are made of brightness.
_PAINT = {
    "red": (0, 0.85), "orange": (28, 0.9), "yellow": (52, 0.9), "green": (120, 0.7), "blue": (220, 0.75),
    "purple": (275, 0.6), "pink": (328, 0.5), "brown": (25, 0.6),
    "black": (0, 0.0), "white": (0, 0.0), "gray": (0, 0.0),
}  # fmt: skip
COLORS = tuple(_PAINT)
_HUES = (("red", 345, 372), ("orange", 15, 42), ("yellow", 42, 68), ("green", 68, 165), ("blue", 165, 255),
         ("purple", 255, 295), ("pink", 295, 345))  # fmt: skip
_LABELS = ("black", "white", "gray", *(name for name, _, _ in _HUES), "brown")
_OPAQUE = 128
_SHARE = 0.6
_FEWEST_PIXELS = 30


def color_of(cutout: np.ndarray) -> str | None:
    """The colour that 60 % of the opaque pixels share, or None. ``cutout``: uint8 (height, width, 4)."""
    pixels = cutout[..., :3][cutout[..., 3] > _OPAQUE]
    if len(pixels) < _FEWEST_PIXELS:
        return None
    hue, saturation, value = _hsv(pixels[None])[0].T / 255
    hue = hue * 360
    dark = value < 0.22
    pale = (saturation < 0.18) & ~dark
    label = np.full(len(pixels), -1)
    label[dark], label[pale & (value > 0.82)], label[pale & (value <= 0.82)] = 0, 1, 2
    colored = ~dark & ~pale
    brown = colored & (hue > 12) & (hue < 48) & (value < 0.62)
    for index, (_, low, high) in enumerate(_HUES):
        within = ((hue >= low) & (hue < high)) | ((hue + 360 >= low) & (hue + 360 < high))
        label[colored & ~brown & within] = 3 + index
    label[brown] = len(_LABELS) - 1
    counts = np.bincount(label + 1, minlength=len(_LABELS) + 1)[1:]
    best = int(counts.argmax())
    return _LABELS[best] if counts[best] > _SHARE * len(pixels) else None


def paint(cutout: np.ndarray, color: str, rng: random.Random) -> np.ndarray:
    """The cut-out in another colour, its light and shade kept. ``color``: one of :data:`COLORS`."""
    painted = cutout.copy()
    hsv = _hsv(painted[..., :3])
    hue, saturation = _PAINT[color]
    if color == "black":
        hsv[..., 1:] *= (0.2, 0.28)
    elif color == "white":
        hsv[..., 1] *= 0.08
        hsv[..., 2] = 190 + hsv[..., 2] * 0.25
    elif color == "gray":
        hsv[..., 1] *= 0.06
        hsv[..., 2] = 70 + hsv[..., 2] * 0.42
    else:
        hsv[..., 0] = ((hue + rng.uniform(-7, 7)) % 360) * 255 / 360
        hsv[..., 1] = hsv[..., 1] * 0.35 + saturation * 255 * 0.7
        hsv[..., 2] = (hsv[..., 2] * 0.7 + (45 if color == "brown" else 75)).clip(0, 255)
        if color == "brown":
            hsv[..., 2] *= 0.62
    image = Image.frombytes("HSV", painted.shape[1::-1], hsv.clip(0, 255).astype(np.uint8).tobytes())
    painted[..., :3] = np.asarray(image.convert("RGB"))
    return painted


def _hsv(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("HSV")).astype(np.float32)
