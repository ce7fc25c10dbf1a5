"""A scene of moving shapes whose boxes are known exactly: discs, squares, triangles and crosses over moving ground.

Everything is a function of time, so a frame can be drawn at any microsecond. Shapes have a texture of their own, since
what does not change inside sends events from its edge only; they rotate, cover one another and turn back at borders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from multiway_core.errors import ConfigError
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.labels.boxes import Boxes
from multiway_event_vision.simulator.sensor import SensorConfig
from multiway_event_vision.simulator.simulation import Simulation

CLASS_NAMES = ("disc", "square", "triangle", "cross")
_WAVES = 10  # that make up the ground
_MAX_WAVE, _SHORTEST_WAVE = 80.0, 14.0  # pixels
_CROSS_ARM = 0.36  # half the width of a cross's arms, in radii
_NOISE_HZ = 0.5  # of the sensor that looks at it
_DARKEST, _BRIGHTEST = 0.02, 0.98


@dataclass(frozen=True)
class ShapesConfig:
    """Sizes in pixels, speeds in pixels a second; ranges are drawn from evenly."""

    width: int = 128
    height: int = 96
    duration_us: int = 100_000
    frames_per_second: int = 1000
    min_shapes: int = 1
    max_shapes: int = 3
    radius: tuple[float, float] = (9.0, 20.0)
    speed: tuple[float, float] = (60.0, 260.0)
    rotation: tuple[float, float] = (-4.0, 4.0)  # radians a second
    ground_speed: float = 25.0
    contrast: tuple[float, float] = (0.18, 0.4)  # of a shape against the ground's mean, brighter or darker
    texture: float = 0.12  # amplitude inside the shapes
    min_visible: float = 0.25  # share of a shape that must be seen for a box

    def __post_init__(self) -> None:
        if not 1 <= self.min_shapes <= self.max_shapes <= 100:
            raise ConfigError(
                f"{self.min_shapes} to {self.max_shapes} shapes; expected 1 to 100, the lower first"
            )
        if 2 * self.radius[1] >= min(self.width, self.height) or self.radius[0] <= 1:
            raise ConfigError(
                f"radii {self.radius} on {self.width} x {self.height} pixels; expected above 1 and shapes that fit in"
            )
        if self.frames_per_second < 1 or self.duration_us < 1:
            raise ConfigError(
                f"{self.duration_us} us at {self.frames_per_second} frames a second; expected 1 or more"
            )


class Shape(NamedTuple):
    """One shape: its state at time 0 and how that changes."""

    class_id: int
    radius: float
    x: float
    y: float
    speed_x: float  # pixels a second
    speed_y: float
    angle: float
    rotation: float  # radians a second
    brightness: float
    stripes: tuple[float, float, float, float]  # two wavelengths in pixels, two phases


class MovingShapes:
    """The scene; a `FrameSource`. The same in every run for the same `seed`."""

    def __init__(self, config: ShapesConfig | None = None, *, seed: int = 0) -> None:
        self.config = config = config or ShapesConfig()
        self.width, self.height = config.width, config.height
        generator = np.random.default_rng(seed)
        count = int(generator.integers(config.min_shapes, config.max_shapes + 1))
        self.shapes = [self._drawn(generator) for _ in range(count)]
        lengths_W = np.exp(generator.uniform(np.log(_SHORTEST_WAVE), np.log(_MAX_WAVE), _WAVES))
        direction_W = generator.uniform(0, 2 * np.pi, _WAVES)
        self._wave_x_W = 2 * np.pi * np.cos(direction_W) / lengths_W
        self._wave_y_W = 2 * np.pi * np.sin(direction_W) / lengths_W
        self._phase_W = generator.uniform(0, 2 * np.pi, _WAVES)
        self._amplitude_W = 0.25 * lengths_W / lengths_W.sum()
        heading = generator.uniform(0, 2 * np.pi)
        pan = config.ground_speed * np.cos(heading), config.ground_speed * np.sin(heading)
        self._pan_W = self._wave_x_W * pan[0] + self._wave_y_W * pan[1]  # radians a second

    def _drawn(self, generator: np.random.Generator) -> Shape:
        config = self.config
        radius, speed = generator.uniform(*config.radius), generator.uniform(*config.speed)
        heading, sign = generator.uniform(0, 2 * np.pi), generator.choice([-1.0, 1.0])
        return Shape(
            class_id=int(generator.integers(len(CLASS_NAMES))),
            radius=radius,
            x=generator.uniform(radius, config.width - radius),
            y=generator.uniform(radius, config.height - radius),
            speed_x=speed * np.cos(heading),
            speed_y=speed * np.sin(heading),
            angle=generator.uniform(0, 2 * np.pi),
            rotation=generator.uniform(*config.rotation),
            brightness=0.5 + sign * generator.uniform(*config.contrast),
            stripes=(*generator.uniform(5, 12, 2), *generator.uniform(0, 2 * np.pi, 2)),
        )

    def frames(self) -> Iterator[tuple[NDArray[np.float64], int]]:
        """Yield (picture, microseconds) from 0 to the duration, both included."""
        period = 1e6 / self.config.frames_per_second
        last = -1
        for number in range(int(self.config.duration_us / period) + 1):
            t = round(number * period)
            if t > last:
                yield self.picture(t), t
                last = t
        if last < self.config.duration_us:
            yield self.picture(self.config.duration_us), self.config.duration_us

    def picture(self, t: int) -> NDArray[np.float64]:
        """(height, width) intensities from 0 to 1 at `t` microseconds."""
        picture_HW = self._ground(t)
        for shape in self.shapes:
            part, cover_hw, inside_hw = self._shape(shape, t)
            picture_HW[part] += cover_hw * (inside_hw - picture_HW[part])
        return np.clip(picture_HW, _DARKEST, _BRIGHTEST, out=picture_HW)

    def boxes(self, t: int) -> Boxes:
        """The shapes at `t` microseconds, around the pixels that are seen of them; `track_id` counts the shapes."""
        on_top_HW = np.full((self.height, self.width), -1)
        whole = []
        for track, shape in enumerate(self.shapes):
            part, cover_hw, _ = self._shape(shape, t)
            on_top_HW[part][cover_hw > 0.5] = track
            whole.append(int((cover_hw > 0.5).sum()))
        rows = []
        for track, shape in enumerate(self.shapes):
            lines, columns = np.nonzero(on_top_HW == track)
            if not len(lines) or len(lines) < self.config.min_visible * whole[track]:
                continue
            left, top = columns.min(), lines.min()
            size = columns.max() - left + 1, lines.max() - top + 1
            rows.append((t, left, top, *size, shape.class_id, track))
        return Boxes.from_arrays(*np.array(rows, np.float64).reshape(-1, 7).T)

    def _ground(self, t: int) -> NDArray[np.float64]:
        # A wave over x and y is two products of a wave over x and one over y.
        x_WX = self._wave_x_W[:, None] * np.arange(self.width)
        y_WY = self._wave_y_W[:, None] * np.arange(self.height)
        y_WY += (self._phase_W - self._pan_W * (t * 1e-6))[:, None]
        a_W1 = self._amplitude_W[:, None]
        return 0.5 + (a_W1 * np.cos(y_WY)).T @ np.cos(x_WX) - (a_W1 * np.sin(y_WY)).T @ np.sin(x_WX)

    def _shape(
        self, shape: Shape, t: int
    ) -> tuple[tuple[slice, slice], NDArray[np.float64], NDArray[np.float64]]:
        """(the part of the picture around a shape, share of every pixel that it covers, its intensity there)."""
        seconds = t * 1e-6
        x = _reflected(shape.x + shape.speed_x * seconds, shape.radius, self.width - shape.radius)
        y = _reflected(shape.y + shape.speed_y * seconds, shape.radius, self.height - shape.radius)
        reach = shape.radius + 1
        left, right = max(int(x - reach), 0), min(int(x + reach) + 2, self.width)
        top, bottom = max(int(y - reach), 0), min(int(y + reach) + 2, self.height)
        cosine, sine = (
            np.cos(shape.angle + shape.rotation * seconds),
            np.sin(shape.angle + shape.rotation * seconds),
        )
        right_w, down_h1 = np.arange(left, right) - x, (np.arange(top, bottom) - y)[:, None]
        u_hw, v_hw = cosine * right_w + sine * down_h1, cosine * down_h1 - sine * right_w
        cover_hw = np.clip(0.5 - _distance(shape.class_id, u_hw, v_hw, shape.radius), 0, 1)
        length_u, length_v, phase_u, phase_v = shape.stripes
        waves_hw = np.sin(2 * np.pi * u_hw / length_u + phase_u) * np.sin(
            2 * np.pi * v_hw / length_v + phase_v
        )
        part = slice(top, bottom), slice(left, right)
        return part, cover_hw, shape.brightness + self.config.texture * waves_hw


def _reflected(position: float, low: float, high: float) -> float:
    """`position` of a ball that runs between walls at `low` and `high`."""
    around = (position - low) % (2 * (high - low))
    return low + min(around, 2 * (high - low) - around)


def _distance(class_id: int, u_hw: NDArray, v_hw: NDArray, radius: float) -> NDArray[np.float64]:
    """Signed distance in pixels (negative inside, exact near straight edges) to a shape in a circle of `radius`."""
    name = CLASS_NAMES[class_id]
    if name == "disc":
        return np.hypot(u_hw, v_hw) - radius
    if name == "square":
        return np.maximum(np.abs(u_hw), np.abs(v_hw)) - radius / np.sqrt(2)
    if name == "triangle":
        sides = [
            u_hw * np.cos(angle) + v_hw * np.sin(angle) for angle in np.pi * np.array([0.5, 7 / 6, 11 / 6])
        ]
        return np.maximum(np.maximum(sides[0], sides[1]), sides[2]) - radius / 2
    reach = radius * np.sqrt(1 - _CROSS_ARM**2)
    across, along = np.abs(u_hw), np.abs(v_hw)
    bars = [np.maximum(a - reach, b - _CROSS_ARM * radius) for a, b in ((across, along), (along, across))]
    return np.minimum(bars[0], bars[1])


def shapes_recording(
    seed: int,
    config: ShapesConfig | None = None,
    sensor: SensorConfig | None = None,
    *,
    label_every_us: int | None = None,
) -> tuple[Events, Boxes]:
    """A recording of a scene of its own for every `seed`, and its boxes at every `label_every_us` (at its end only).

    Thresholds and noise are drawn from `seed` as well; `sensor` has half a hertz of noise unless given.
    """
    scene = MovingShapes(config, seed=seed)
    events = Simulation(scene, sensor or SensorConfig(noise_hz=_NOISE_HZ), seed=seed).read()
    end = scene.config.duration_us
    period = label_every_us or end
    found = [scene.boxes(t) for t in range(period, end + 1, period)]
    columns = [
        np.concatenate([getattr(boxes, name) for boxes in found]) for name in Boxes.__dataclass_fields__
    ]
    return events, Boxes.from_arrays(*columns)
