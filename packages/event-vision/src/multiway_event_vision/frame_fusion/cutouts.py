"""Clips of cut-outs that turn, grow and accelerate over a moving ground, with exact events.

Filmed clips have a frame every 33 to 100 ms, and what a simulated sensor sees between is optical flow's guess. Here
the sensor is shown every picture, so motion between frames may be anything. Ground and cut-outs are parts of given
pictures.
Shape letters: H W rows and columns, 3 is (red, green, blue).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.events import concatenate
from multiway_event_vision.simulator import Sensor, SensorConfig
from multiway_event_vision.time_replayer.baselines import Image
from multiway_event_vision.time_replayer.clips import Clip

WIDTH, HEIGHT = 224, 176
FRAMES, SHOWN, PERIOD = (
    17,
    10,
    20_000,
)  # frames; pictures that the sensor sees for each; microseconds between frames
_CUTOUTS = (2, 6)
_GROUND_SPEED, _SPEED = 1.5, 5.0  # pixels a frame, standard deviations
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


class _Motion:
    """A similarity transform over time: uneven motion along a curve, turning, growing."""

    def __init__(self, generator: np.random.Generator, speed: float, turn: float) -> None:
        span = FRAMES - 1
        self._way_2 = generator.normal(0, speed * span / 2, 2)
        self._bend_2 = generator.normal(0, speed * span / 6, 2)
        self._turn = generator.normal(0, turn)
        self._growth = generator.normal(0, 0.1)
        self._uneven, self._phase = generator.uniform(0, 0.9), generator.uniform(0, 2 * np.pi)
        self._waves = generator.uniform(0.5, 2.0)

    def matrix(self, u: float, centre_2: NDArray, scale: float) -> NDArray[np.float64]:
        """(2, 3): the transform at u, 0 to 1, about a picture's centre (x, y)."""
        wave = np.sin(2 * np.pi * self._waves * u + self._phase) / (2 * np.pi * self._waves)
        way = u + self._uneven * wave - 0.5
        found = cv2.getRotationMatrix2D(
            (float(centre_2[0]), float(centre_2[1])),
            way * self._turn,
            scale * float(np.exp(way * self._growth)),
        )
        found[:, 2] += way * self._way_2 + np.sin(np.pi * u) * self._bend_2
        return np.asarray(found)


class _Cutout:
    def __init__(self, generator: np.random.Generator, picture_HW3: Image) -> None:
        height, width = picture_HW3.shape[:2]
        rows, columns = (int(generator.integers(24, min(80, size) + 1)) for size in (height, width))
        top, left = int(generator.integers(height - rows + 1)), int(generator.integers(width - columns + 1))
        self.picture_HW3 = picture_HW3[top : top + rows, left : left + columns].astype(np.float32)
        cover = np.zeros((rows, columns), np.float32)
        corners = int(generator.integers(4, 9))
        angles = np.sort(generator.uniform(0, 2 * np.pi, corners))
        reach = generator.uniform(0.6, 1.0, corners)
        outline = np.stack((np.cos(angles) * reach, np.sin(angles) * reach), 1) * (
            columns / 2 - 2,
            rows / 2 - 2,
        )
        outline = np.rint(outline + (columns / 2, rows / 2)).astype(np.int32)
        cv2.fillPoly(cover, [outline], (1.0,))
        self.cover_HW1 = cv2.GaussianBlur(cover, (3, 3), 0)[..., None]
        self.motion = _Motion(generator, _SPEED, 40)
        self.place_2 = generator.uniform(0, (WIDTH, HEIGHT)) - (columns / 2, rows / 2)
        self.centre_2 = np.array([columns / 2, rows / 2])

    def lay_on(self, ground_HW3: NDArray[np.float32], u: float) -> NDArray[np.float32]:
        matrix = self.motion.matrix(u, self.centre_2, 1.0)
        matrix[:, 2] += self.place_2
        layers = np.concatenate((self.picture_HW3, self.cover_HW1), -1)
        moved = cv2.warpAffine(layers, matrix, (WIDTH, HEIGHT))
        cover_HW1 = moved[..., 3:]
        # Outside the cut-out its picture is black, and its edges are mixed with that already.
        return np.asarray(ground_HW3 * (1 - cover_HW1) + moved[..., :3] * cover_HW1, np.float32)


def cutout_clip(pictures: Sequence[Image], sensors: Sequence[SensorConfig], seed: Sequence[int]) -> Clip:
    """A scene of parts of the pictures, seen by each of the sensors. The same for the same seed."""
    generator = np.random.default_rng(seed)
    chosen = [pictures[index] for index in generator.integers(len(pictures), size=_CUTOUTS[1])]
    ground = np.asarray(cv2.resize(chosen[0], (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_AREA))
    ground_HW3 = cv2.GaussianBlur(ground, (3, 3), 0).astype(np.float32)
    motion = _Motion(generator, _GROUND_SPEED, 6)
    cutouts = [_Cutout(generator, picture) for picture in chosen[: generator.integers(*_CUTOUTS)]]

    def drawn(t: int) -> NDArray[np.float32]:
        u = t / ((FRAMES - 1) * PERIOD)
        matrix = motion.matrix(u, np.array([WIDTH, HEIGHT]), 0.8)
        matrix[:, 2] -= (WIDTH / 2, HEIGHT / 2)
        scene = cv2.warpAffine(ground_HW3, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        for cutout in cutouts:
            scene = cutout.lay_on(np.asarray(scene, np.float32), u)
        return np.asarray(scene, np.float32)

    eyes = [Sensor(WIDTH, HEIGHT, config, seed=seed[-1] + n) for n, config in enumerate(sensors)]
    seen: list[list] = [[] for _ in eyes]
    frames, times = [], []
    for step in range((FRAMES - 1) * SHOWN + 1):
        t = step * PERIOD // SHOWN
        picture = drawn(t)
        if step % SHOWN == 0:
            frames.append(np.rint(picture).astype(np.uint8))
            times.append(t)
        for eye, found in zip(eyes, seen, strict=True):
            found.append(eye.show(picture @ _GREY / 255, t))
    recordings = tuple(concatenate(found) for found in seen)
    return Clip("cut-outs " + "-".join(map(str, seed)), np.stack(frames), np.array(times), recordings)
