"""Generated tissue-like pictures whose label depends on where two structures lie in the whole, or on one alone.

A slide is a pale stroma inside an irregular outline. In it lie two nests of one mean colour, whose cells are small in
the one and large in the other; a thumbnail shows two equal spots.

* ``order``: whether the nest of small cells lies left or right of the other: neither a tile, nor all tiles without
  their places, nor a thumbnail can tell.
* ``local``: whether the cells of both nests are small or large: any tile of one tells.

Everything is drawn from formulas in shares of the side, so a slide has one look at every size. The distance of the
nests gives times to event, for survival.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Label = Literal["order", "local"]
LABELS: dict[Label, tuple[str, str]] = {
    "order": ("small cells left", "small cells right"),
    "local": ("small cells", "large cells"),
}
CELL = 1 / 48
"""Width of a small cell as a share of the side; a large one is twice as wide."""
RADIUS, GAP = 0.13, 0.34
"""Of a nest; and how far the centres lie apart sideways at least."""
BACKGROUND = np.array([243, 243, 243], np.uint8)
STROMA, NEST = np.array([228.0, 172.0, 202.0]), np.array([150.0, 104.0, 172.0])
CONTRAST = np.array([68.0, 60.0, 52.0])
MEAN_GRAIN = -0.24
"""Of the waves through the hyperbolic tangent, by integration over a period: taken off, so that no colour tells."""
BEND = 0.002
"""Of the rows of cells, as a share of the side."""
MEDIAN_MONTHS = 24.0


@dataclass(frozen=True)
class Slide:
    """pixels: uint8 (side, side, 3). label: 0 or 1. distance: of the nests, as a share of the side. time: months until
    the event, or until observation ended where ``event`` is False. centres: (row, column) of the nests, as shares of
    the side; of ``order``, the small-celled one first."""

    pixels: np.ndarray
    label: int
    distance: float
    time: float
    event: bool
    centres: tuple[tuple[float, float], tuple[float, float]]


class Tissue:
    """The slides of one split."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def slide(self, number: int, side: int = 192, label: Label = "order") -> Slide:
        """Slide ``number`` of the split: a pure function of its arguments."""
        generator = np.random.default_rng([self.seed, number, 11])
        answer = number % 2
        first, second = _centres(generator)
        if (first[1] > second[1]) != bool(answer):
            first, second = second, first
        cells = (1, 2) if label == "order" else (1 + answer,) * 2
        place = (np.arange(side, dtype=np.float32) + 0.5) / side
        y, x = place[:, None], place[None, :]
        waves = generator.uniform(0, 2 * np.pi, 8)
        stain = generator.normal(1.0, 0.03, 3)

        fibres = np.sin(31 * x + 9 * np.sin(5 * y + waves[0]) + waves[1]) * np.sin(23 * y + waves[2])
        shade = 6 * fibres + generator.normal(0, 4, (side, side))
        bend = (BEND * np.sin(15 * x + waves[0]), BEND * np.sin(15 * y + waves[2]))
        pixels = STROMA + shade[..., None]
        for centre, cell, start in zip((first, second), cells, (3, 5), strict=True):
            down, right = y - centre[0], x - centre[1]
            rim = RADIUS * (1 + 0.12 * np.sin(3 * np.arctan2(down, right) + waves[7]))
            grain = _nuclei(y + bend[0], x + bend[1], cell * CELL, 0.15 * (waves[start : start + 2] - np.pi))
            nest = NEST + CONTRAST * grain[..., None] + 0.5 * shade[..., None]
            pixels = np.where((np.hypot(down, right) < rim)[..., None], nest, pixels)
        pixels = np.clip(pixels * stain, 0, 255).astype(np.uint8)
        edge = 0.56 + 0.03 * np.sin(4 * np.arctan2(y - 0.5, x - 0.5) + waves[7])
        pixels[np.hypot(y - 0.5, x - 0.5) > edge] = BACKGROUND
        distance = float(np.hypot(first[0] - second[0], first[1] - second[1]))
        time, event = _survival(generator, distance)
        return Slide(pixels, answer, distance, time, event, (first, second))


def _nuclei(y: np.ndarray, x: np.ndarray, width: float, waves: np.ndarray) -> np.ndarray:
    """Dark nuclei between pale bodies of cells, packed nearly as honeycombs are: -1 to 1, 0 in the mean.

    ``width``: of a row of cells. Three plane waves have their common peaks there. The pattern repeats every 4 widths,
    a twelfth of the side: the texture is easy on purpose, so that what a method learns late is where it lies.
    """
    step, (first, second) = 2 * np.pi / width, waves
    total = np.cos(step * x + first + second) + np.cos(step * (x / 2 + 0.75 * y) + first)
    total = total + np.cos(step * (x / 2 - 0.75 * y) + second)
    return MEAN_GRAIN - np.tanh(1.5 * (total - 0.2))


def _centres(generator: np.random.Generator) -> tuple[tuple[float, float], tuple[float, float]]:
    while True:
        first, second = generator.uniform(0.16, 0.84, (2, 2))
        inside = max(np.hypot(*(first - 0.5)), np.hypot(*(second - 0.5))) < 0.4
        if inside and abs(first[1] - second[1]) > GAP:
            return (float(first[0]), float(first[1])), (float(second[0]), float(second[1]))


def _survival(generator: np.random.Generator, distance: float) -> tuple[float, bool]:
    """Exponential time with a hazard that falls 5-fold from near to far, and an independent end of observation."""
    hazard = np.log(2) / MEDIAN_MONTHS * np.exp(-3.5 * (distance - 0.5))
    time, end = generator.exponential(1 / hazard), generator.uniform(6, 120)
    return float(round(min(time, end), 2)), bool(time <= end)
