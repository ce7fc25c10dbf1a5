"""Generated tissue-like pictures whose label depends on structures that lie far apart, or on one alone.

A slide is a stroma of fibres with sparse nuclei inside an irregular outline. In it lie four nests of one mean colour,
two of small cells and two of large ones, and, as distractors, glands.

* ``apart``: whether the two nests of small cells are near each other or far apart. The nests of large cells lie the
  other way, so that neither a tile, nor all tiles without their places, nor a thumbnail without the cells, can tell.
* ``local``: whether the cells of all nests are small or large: any tile of one tells.

The distance also gives times to event, for survival. The textures of a split come from its own seed, so that held-out
slides have other cells and other fibres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Label = Literal["apart", "local"]
LABELS: dict[Label, tuple[str, str]] = {"apart": ("near", "apart"), "local": ("fine", "coarse")}
NEAR, FAR = (0.20, 0.30), (0.50, 0.74)
"""Distance of the centres of two nests as a share of the side."""
RADIUS, GAP = 0.085, 0.19
"""Of a nest, and the least distance of two centres, as shares of the side."""
CANVAS = 1536
BACKGROUND = np.array([243, 243, 243], np.uint8)
MEDIAN_MONTHS = 24.0


Place = tuple[float, float]


@dataclass(frozen=True)
class Slide:
    """pixels: uint8 (side, side, 3). label: 0 or 1. distance: of the nests of small cells, as a share of the side.
    time: months until the event, or until observation ended where ``event`` is False. centres: (row, column) of the
    nests, as shares of the side, first the small-celled ones."""

    pixels: np.ndarray
    label: int
    distance: float
    time: float
    event: bool
    centres: tuple[Place, ...]


def smooth_noise(generator: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Smooth random values of deviation 1, float32 (side, side), with about ``cells`` bumps a side."""
    from PIL import Image

    coarse = generator.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    values = np.asarray(image)
    return (values - values.mean()) / values.std()


class Tissue:
    """The textures of one split, and slides made of them."""

    def __init__(self, seed: int, cell: int = 2) -> None:
        """``cell``: pixels of a small nucleus; large ones are twice as wide."""
        generator = np.random.default_rng([seed, 7])
        self.seed = seed
        self.stroma = _stroma(generator)
        self.fine = _nest(generator, cell)
        self.coarse = _nest(generator, 2 * cell)
        self.glands = _glands(generator)

    def slide(self, number: int, side: int = 1024, label: Label = "apart", *, clean: bool = False) -> Slide:
        """Slide ``number`` of the split: a pure function of its arguments. ``clean``: without distractors."""
        generator = np.random.default_rng([self.seed, number, 11])
        centres = _centres(generator, near=number % 2 == 0)
        distance = _distance(centres[0], centres[1])
        answer = number % 2
        kinds = (self.fine, self.fine, self.coarse, self.coarse)
        if label == "local":
            answer = int(generator.integers(2))
            kinds = ((self.fine, self.coarse)[answer],) * 4
        rows = np.linspace(0, 1, side, endpoint=False, dtype=np.float32)[:, None]
        columns = rows.T
        warp = 0.022 * smooth_noise(generator, side, 9)
        stain = generator.normal(1.0, 0.04, 3).astype(np.float32)
        pixels = self._crop(self.stroma, generator, side)

        def paste(canvas: np.ndarray, centre: tuple[float, float], radius: float) -> None:
            low = [max(0, int((place - 1.8 * radius) * side)) for place in centre]
            high = [min(side, int((place + 1.8 * radius) * side)) for place in centre]
            box = (slice(low[0], high[0]), slice(low[1], high[1]))
            inside = np.hypot(rows[box[0]] - centre[0], columns[:, box[1]] - centre[1]) + warp[box] < radius
            grown = self._crop(canvas, generator, max(inside.shape))
            pixels[box][inside] = grown[: inside.shape[0], : inside.shape[1]][inside]

        for centre in [] if clean else _distractors(generator, centres):
            paste(self.glands, centre, 0.055)
        for centre, kind in zip(centres, kinds, strict=True):
            paste(kind, centre, RADIUS)
        shades = np.clip(np.arange(256)[:, None] * stain, 0, 255).astype(np.uint8)
        for channel in range(3):
            pixels[..., channel] = shades[:, channel][pixels[..., channel]]
        outline = 0.03 * smooth_noise(generator, side, 4)
        pixels[np.hypot(rows - 0.5, columns - 0.5) + outline > 0.60] = BACKGROUND
        time, event = _survival(generator, distance)
        return Slide(pixels, answer, distance, time, event, centres)

    def _crop(self, canvas: np.ndarray, generator: np.random.Generator, side: int) -> np.ndarray:
        """A random square of a canvas, flipped at random; larger squares repeat it."""
        turned = canvas[:: generator.choice([-1, 1]), :: generator.choice([-1, 1])]
        top, left = generator.integers(0, CANVAS, 2)
        places = (np.arange(top, top + side) % CANVAS, np.arange(left, left + side) % CANVAS)
        return turned[places[0]][:, places[1]]


def _distance(first: Place, second: Place) -> float:
    return float(np.hypot(first[0] - second[0], first[1] - second[1]))


def _centres(generator: np.random.Generator, near: bool) -> tuple[Place, ...]:
    """Of two small-celled nests, near or far, and of two large-celled ones the other way; all inside the outline."""
    while True:
        places: list[Place] = []
        for low, high in (NEAR, FAR) if near else (FAR, NEAR):
            first, angle = generator.uniform(0.14, 0.86, 2), generator.uniform(0, 2 * np.pi)
            step = generator.uniform(low, high) * np.array([np.sin(angle), np.cos(angle)])
            places += [(float(y), float(x)) for y, x in (first, first + step)]
        inside = all(_distance(place, (0.5, 0.5)) < 0.42 for place in places)
        if inside and min(_distance(a, b) for k, a in enumerate(places) for b in places[:k]) > GAP:
            return tuple(places)


def _distractors(generator: np.random.Generator, nests: tuple[Place, ...]) -> list[Place]:
    places = [
        (float(y), float(x)) for y, x in generator.uniform(0.15, 0.85, (int(generator.integers(3, 8)), 2))
    ]
    return [place for place in places if min(_distance(place, nest) for nest in nests) > 0.15]


def _survival(generator: np.random.Generator, distance: float) -> tuple[float, bool]:
    """Exponential time with a hazard that falls 8-fold from near to far, and an independent end of observation."""
    hazard = np.log(2) / MEDIAN_MONTHS * np.exp(-3.5 * (distance - 0.45))
    time, end = generator.exponential(1 / hazard), generator.uniform(6, 120)
    return float(round(min(time, end), 2)), bool(time <= end)


def _canvas(colour: tuple[int, int, int], generator: np.random.Generator, grain: float) -> np.ndarray:
    base = np.array(colour, np.float32) + grain * smooth_noise(generator, CANVAS, 40)[..., None]
    return base + generator.normal(0, 4, (CANVAS, CANVAS, 1)).astype(np.float32)


def _finished(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _stroma(generator: np.random.Generator) -> np.ndarray:
    from PIL import Image, ImageDraw

    base = _canvas((226, 170, 200), generator, 6)
    fibres = Image.new("L", (CANVAS, CANVAS), 0)
    draw = ImageDraw.Draw(fibres)
    for x, y, angle in zip(
        *generator.uniform(0, CANVAS, (2, 2600)), generator.normal(0.5, 0.5, 2600), strict=True
    ):
        length = generator.uniform(30, 90)
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        draw.line([(x, y), end], fill=int(generator.integers(10, 40)), width=int(generator.integers(1, 4)))
    for x, y in generator.uniform(0, CANVAS, (1500, 2)):
        draw.ellipse([x, y, x + 9, y + 4], fill=110)
    marks = np.asarray(fibres, np.float32)[..., None]
    return _finished(base - marks * np.array([0.9, 1.0, 0.5], np.float32))


def _nest(generator: np.random.Generator, cell: int) -> np.ndarray:
    """Round nuclei on a jittered grid; their share of the area, and so the mean colour, is that of any ``cell``."""
    from PIL import Image, ImageDraw

    marks = Image.new("L", (CANVAS, CANVAS), 0)
    draw = ImageDraw.Draw(marks)
    pitch = cell * 1.5
    for row in np.arange(0, CANVAS, pitch):
        for column in np.arange(0, CANVAS, pitch):
            y, x = (row, column) + generator.normal(0, 0.12 * cell, 2)
            draw.ellipse([x, y, x + cell - 1, y + cell - 1], fill=int(generator.integers(180, 255)))
    shares = np.asarray(marks, np.float32)[..., None] / 255
    shares *= 0.35 / shares.mean()
    base = _canvas((206, 160, 205), generator, 4)
    return _finished(base - shares * np.array([110, 95, 50], np.float32))


def _glands(generator: np.random.Generator) -> np.ndarray:
    from PIL import Image, ImageDraw

    rings = Image.new("L", (CANVAS, CANVAS), 0)
    draw = ImageDraw.Draw(rings)
    for y, x in generator.uniform(0, CANVAS, (900, 2)):
        radius = generator.uniform(14, 26)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=230, width=6, fill=20)
    marks = np.asarray(rings, np.float32)[..., None] / 255
    return _finished(_canvas((222, 176, 206), generator, 5) - marks * np.array([120, 110, 60], np.float32))
