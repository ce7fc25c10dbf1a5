"""Photographs with boxes, seen through random crops."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from multiway_vision_language.scenes.scene import Thing, area

_LEAST_LEFT = 0.45  # of a thing's box, for it to count after a crop


@dataclass(frozen=True)
class Photo:
    """A photograph, uint8 (height, width, 3), with its things; the other fields as of a scene."""

    picture: np.ndarray
    things: tuple[Thing, ...]
    complete: bool
    label: str | None = None
    captions: tuple[str, ...] = ()


def photo_view(photo: Photo, size: int, rng: random.Random) -> tuple[Image.Image, list[Thing]]:
    """A random part of a photograph, warped to a square of ``size`` pixels, perhaps mirrored and lit anew."""
    image = Image.fromarray(photo.picture)
    left = top = 0.0
    right = bottom = 1.0
    if rng.random() < 0.7:
        width = rng.uniform(0.6, 1)
        height = min(1.0, width * rng.uniform(0.85, 1.18))
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        right, bottom = left + width, top + height
    pixels = [
        int(left * image.width),
        int(top * image.height),
        int(right * image.width),
        int(bottom * image.height),
    ]
    pixels[2], pixels[3] = max(pixels[2], pixels[0] + 8), max(pixels[3], pixels[1] + 8)
    image = image.crop(tuple(pixels)).resize((size, size), Image.Resampling.BICUBIC)  # type: ignore[arg-type]
    mirrored = rng.random() < 0.5
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast):
        if rng.random() < 0.4:
            image = enhance(image).enhance(rng.uniform(0.7, 1.3))

    things = []
    for thing in photo.things:
        x0, y0, x1, y1 = thing.box
        moved = (
            (x0 - left) / (right - left),
            (y0 - top) / (bottom - top),
            (x1 - left) / (right - left),
            (y1 - top) / (bottom - top),
        )
        a, b, c, d = (min(1.0, max(0.0, value)) for value in moved)
        if area(moved) <= 0 or area((a, b, c, d)) < _LEAST_LEFT * area(moved):
            continue
        things.append(
            Thing(
                thing.name,
                (1 - c, b, 1 - a, d) if mirrored else (a, b, c, d),
                thing.color,
                thing.other_name,
            )
        )
    return image, things
