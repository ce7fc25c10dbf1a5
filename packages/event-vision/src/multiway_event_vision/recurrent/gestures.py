"""Eleven movements of a blob that only the order of time tells apart, in the manner of DVS Gesture.

Frames of DVS Gesture can be classified without their order (Vicente-Sola et al. 2022, arXiv 2209.14915). Here they
cannot: ten classes are five pairs, each the other run backwards, and the blob is bright or dark at random. A dark blob
that runs backwards shows a camera the same frames as a bright one that runs forwards, in the opposite order (but for
the small lag of a pixel's level). Who looks at frames one by one therefore finds the pair, and guesses within it:
6 of 11 (54.5 %) is the most that a network without memory can hope for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.recurrent.event_set import EventSet
from multiway_event_vision.simulator import SensorConfig, Simulation

SENSOR = 32
DURATION_US = 300_000
CLASSES = (
    "right",
    "left",
    "down",
    "up",
    "clockwise",
    "counter-clockwise",
    "spiral-out",
    "spiral-in",
    "eight",
    "eight-back",
    "shake",
)
BEST_WITHOUT_ORDER = 6 / 11
"""Expected accuracy of who finds the pair and guesses within it."""
_FADE_US = 40_000  # the blob comes and goes, so that ends look alike too
_SAMPLE_US = 2_000
_GREY = 0.4
_CONTRAST = 0.8  # in natural logarithms: four events a pixel
_SENSOR = SensorConfig(noise_hz=1.0)

Path = Callable[[float, float], tuple[float, float]]
"""(share of the way, sign of the turn) -> (x, y) within the unit circle."""


def _line(way: float, turn: float) -> tuple[float, float]:
    return 2 * way - 1, 0.0


def _circle(way: float, turn: float) -> tuple[float, float]:
    return float(np.cos(2 * np.pi * way)), float(np.sin(2 * np.pi * way))


def _spiral(way: float, turn: float) -> tuple[float, float]:
    angle, radius = turn * 3 * np.pi * way, 0.15 + 0.85 * way
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def _eight(way: float, turn: float) -> tuple[float, float]:
    return float(np.sin(2 * np.pi * way)), float(0.6 * np.sin(4 * np.pi * way))


def _shake(way: float, turn: float) -> tuple[float, float]:
    return turn * float(np.sin(4 * np.pi * way)), 0.0


_PATHS: tuple[Path, ...] = (_line, _line, _circle, _spiral, _eight, _shake)
_DOWN = 1  # the second line is turned by a right angle


@dataclass(frozen=True)
class Blob:
    """One movement; a `FrameSource`. Lengths in pixels, angles in radians."""

    label: int
    x: float
    y: float
    radius: float
    tilt: float
    turn: float
    width_of_blob: float
    is_bright: bool
    width: int = SENSOR
    height: int = SENSOR

    @classmethod
    def draw(cls, label: int, generator: np.random.Generator) -> Blob:
        """Place, extent, tilt, size, contrast by chance."""
        full = _PATHS[label // 2] is _circle
        x, y = SENSOR / 2 + generator.uniform(-2, 2, 2)
        return cls(
            label,
            x,
            y,
            radius=generator.uniform(7, 10),
            tilt=generator.uniform(-np.pi, np.pi) if full else generator.uniform(-0.25, 0.25),
            turn=float(generator.choice([-1, 1])),
            width_of_blob=generator.uniform(1.8, 2.6),
            is_bright=bool(generator.integers(2)),
        )

    def place(self, t: int) -> tuple[float, float]:
        """(x, y) of the blob's middle at `t` microseconds."""
        way = float(np.clip((t - _FADE_US) / (DURATION_US - 2 * _FADE_US), 0, 1))
        kind, is_reversed = divmod(self.label, 2)
        u, v = _PATHS[kind](1 - way if is_reversed else way, self.turn)
        tilt = self.tilt + (np.pi / 2 if kind == _DOWN else 0)
        x = self.x + self.radius * (u * np.cos(tilt) - v * np.sin(tilt))
        return float(x), float(self.y + self.radius * (u * np.sin(tilt) + v * np.cos(tilt)))

    def frames(self) -> Iterator[tuple[NDArray, int]]:
        """Yield (intensities (32, 32), microseconds)."""
        column_W, row_H = np.arange(self.width), np.arange(self.height)
        contrast = _CONTRAST if self.is_bright else -_CONTRAST
        for t in range(0, DURATION_US + 1, _SAMPLE_US):
            x, y = self.place(t)
            shown = min(t, DURATION_US - t, _FADE_US) / _FADE_US
            across_W, down_H = (
                np.exp(-(((place - middle) / self.width_of_blob) ** 2) / 2)
                for place, middle in ((column_W, x), (row_H, y))
            )
            yield _GREY * np.exp(contrast * shown * np.outer(down_H, across_W)), t


def gestures(*, seed: int = 0, each: int = 100) -> EventSet:
    """`each` recordings of every class, mixed; 300 ms each, drawn from `seed`."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(CLASSES)), each))
    return EventSet.of(
        (Simulation(Blob.draw(int(label), generator), _SENSOR, seed + 1 + number).read(), int(label))
        for number, label in enumerate(labels)
    )
