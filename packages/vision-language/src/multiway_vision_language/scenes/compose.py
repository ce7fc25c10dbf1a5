"""Scenes of named cut-outs, pasted on backgrounds or photographs."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from multiway_vision_language.scenes.colors import COLORS, color_of, paint
from multiway_vision_language.scenes.photos import Photo, photo_view
from multiway_vision_language.scenes.scene import Scene, Thing, area, overlap

SIZE = 256
"""Side of a scene in pixels."""
Cutouts = Mapping[str, Sequence[np.ndarray]]
"""Name -> pictures of it, uint8 (height, width, 4), cropped to what is visible."""

_MOST_HIDDEN = 0.12  # of the smaller of two things
_TRIES = 12


@dataclass(frozen=True)
class Material:
    """What scenes are made of. Any part but the cut-outs may be empty."""

    cutouts: Cutouts
    backgrounds: Sequence[np.ndarray] = ()
    photos: Sequence[Photo] = ()


def compose(material: Material, rng: random.Random, kind: str | None = None) -> Scene:
    """A random scene. ``kind``: "cutouts" on a background, "photo", or "mixed"; by chance when None."""
    if not material.photos:
        kind = "cutouts"
    kind = kind or rng.choices(["cutouts", "photo", "mixed"], [0.58, 0.27, 0.15])[0]
    if kind == "cutouts":
        image = _background(material, rng)
        count = rng.choices([1, 2, 3, 4, 5, 6], [0.18, 0.22, 0.22, 0.18, 0.12, 0.08])[0]
        things = _paste(image, [], material.cutouts, count, rng, largest=0.75 if count == 1 else 0.5)
        return Scene(_with_noise(image, rng), tuple(things))
    photos = material.photos
    # Photographs whose things are all named are fewer and worth more.
    complete = [photo for photo in photos if photo.complete]
    photo = rng.choice(complete if complete and rng.random() > 0.55 else photos)
    image, things = photo_view(photo, SIZE, rng)
    if kind == "mixed":
        things = _paste(image, things, material.cutouts, rng.randint(1, 3), rng, largest=0.4)
        return Scene(_with_noise(image, rng), tuple(things), is_photo=True, complete=photo.complete)
    captions = (rng.choice(photo.captions),) if photo.captions else ()
    return Scene(
        _with_noise(image, rng),
        tuple(things),
        is_photo=True,
        complete=photo.complete,
        label=photo.label,
        captions=captions,
    )


def _background(material: Material, rng: random.Random) -> Image.Image:
    chance = rng.random()
    if chance < 0.55 and material.backgrounds:
        image = Image.fromarray(rng.choice(material.backgrounds))
        part = rng.uniform(0.5, 1)
        width, height = int(image.width * part), int(image.height * part)
        left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
        image = image.crop((left, top, left + width, top + height)).resize(
            (SIZE, SIZE), Image.Resampling.BILINEAR
        )
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image
    if chance < 0.75 and material.photos:
        # Blurred so much that nothing in it can be named.
        photo = Image.fromarray(rng.choice(material.photos).picture)
        photo = photo.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return photo.filter(ImageFilter.GaussianBlur(rng.uniform(7, 16)))
    corners = np.array(
        [[[rng.randint(0, 255) for _ in range(3)] for _ in range(2)] for _ in range(2)], np.uint8
    )
    if rng.random() < 0.4:
        corners[:] = corners[0, 0]
    if rng.random() < 0.25:
        corners[:] = 255 - rng.randint(0, 20)
    return Image.fromarray(corners).resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def _paste(
    image: Image.Image,
    things: Sequence[Thing],
    cutouts: Cutouts,
    count: int,
    rng: random.Random,
    *,
    largest: float,
    smallest: float = 0.14,
) -> list[Thing]:
    """Paste up to ``count`` cut-outs where they hide nothing; all things of the picture."""
    all_things = list(things)
    names = sorted(cutouts)
    for _ in range(count):
        pasted = [thing for thing in all_things if thing.pasted]
        again = pasted and rng.random() < 0.3
        name = rng.choice(pasted).name if again else rng.choice(names)
        cutout = rng.choice(cutouts[name])
        if rng.random() < 0.4:
            color: str | None = rng.choice(COLORS)
            cutout = paint(cutout, color, rng)  # type: ignore[arg-type]
        else:
            color = color_of(cutout)
        side = SIZE * math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        picture = _varied(Image.fromarray(cutout), side, rng)
        width, height = picture.size
        if width >= SIZE or height >= SIZE:
            continue
        for _ in range(_TRIES):
            left, top = rng.randint(0, SIZE - width), rng.randint(0, SIZE - height)
            box = (left / SIZE, top / SIZE, (left + width) / SIZE, (top + height) / SIZE)
            if all(
                overlap(box, thing.box) < _MOST_HIDDEN * min(area(box), thing.area) for thing in all_things
            ):
                image.paste(picture, (left, top), picture)
                all_things.append(Thing(name, box, color, pasted=True))
                break
    return all_things


def _varied(picture: Image.Image, side: float, rng: random.Random) -> Image.Image:
    """A cut-out turned, stretched, lit anew, its longer side ``side`` pixels."""
    stretch = rng.uniform(0.85, 1.15)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.25:
        picture = picture.rotate(rng.uniform(-25, 25), expand=True, resample=Image.Resampling.BICUBIC)
        visible = picture.getchannel("A").point(lambda value: 255 * (value > 32)).getbbox()
        picture = picture.crop(visible) if visible else picture
    scale = side / max(picture.size)
    size = (max(6, int(picture.width * scale * stretch)), max(6, int(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    if rng.random() < 0.3:
        lit = ImageEnhance.Brightness(picture.convert("RGB")).enhance(rng.uniform(0.7, 1.25))
        picture = Image.merge("RGBA", (*lit.split(), picture.getchannel("A")))
    return picture


def _with_noise(image: Image.Image, rng: random.Random) -> np.ndarray:
    pixels = np.array(image.convert("RGB"))
    if rng.random() < 0.3:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(2, 10), pixels.shape)
        pixels = (pixels + noise).clip(0, 255).astype(np.uint8)
    return pixels
