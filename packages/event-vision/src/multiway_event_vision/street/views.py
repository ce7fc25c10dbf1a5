"""Small random views of a long recording, for training: a stretch of time, a crop, and what may change without harm.

A view is turned left to right, played faster or slower, backwards with polarities exchanged (what was brighter became
darker), or with polarities exchanged alone (a dark car instead of a bright one); it is scaled down and thinned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from multiway_core.errors import ConfigError, InputError

from multiway_event_vision.events import Events
from multiway_event_vision.labels.boxes import Boxes
from multiway_event_vision.street.recording import LabelConfig, are_seen


@dataclass(frozen=True)
class ViewConfig:
    """Ranges are drawn from evenly."""

    width: int = 128
    height: int = 96
    duration_us: tuple[int, int] = (100_000, 400_000)
    scale: tuple[float, float] = (0.6, 1.0)
    speed: tuple[float, float] = (0.7, 1.5)
    kept: tuple[float, float] = (0.7, 1.0)  # share of the events
    backwards: float = 0.3  # probabilities
    exchanged: float = 0.3
    empty: float = 0.05  # of a view that is not around an object
    labels: LabelConfig = field(default_factory=LabelConfig)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.speed[0] <= self.speed[1]:
            raise ConfigError(
                f"scales {self.scale}, speeds {self.speed}; expected 0 < scale <= 1 and speeds above 0"
            )


def random_view(
    events: Events, boxes: Boxes, generator: np.random.Generator, config: ViewConfig | None = None
) -> tuple[Events, Boxes]:
    """(events from time 0 on, labels at their times in the view), on a sensor of the configured size.

    Raises InputError: a recording without events or labels.
    """
    config = config or ViewConfig()
    if not len(events) or not len(boxes):
        raise InputError("a view of a recording without events or labels")
    scale, speed = generator.uniform(*config.scale), generator.uniform(*config.speed)
    duration = int(generator.uniform(*config.duration_us) * speed)
    chosen = boxes[int(generator.integers(len(boxes))) :][:1]
    end = int(chosen.t[0])
    if generator.random() < config.empty:
        end = int(generator.integers(events.t[0] + 1, events.t[-1] + 1))
    # Somewhere in the view, not always in its middle.
    middle = np.array([chosen.x[0] + chosen.width[0] / 2, chosen.y[0] + chosen.height[0] / 2])
    size = np.array([config.width, config.height])
    offset = middle * scale - generator.uniform(0.2, 0.8, 2) * size
    offset = np.clip(offset, np.minimum(0, np.array([events.width, events.height]) * scale - size), None)
    offset = np.minimum(offset, np.maximum(np.array([events.width, events.height]) * scale - size, 0))

    start = end - duration
    stretch = events.between(start, end + 1)
    x = np.floor(stretch.x * scale - offset[0]).astype(np.int64)
    y = np.floor(stretch.y * scale - offset[1]).astype(np.int64)
    # Pixels that share a place on the smaller sensor would send more than its one pixel does.
    share = generator.uniform(*config.kept) * scale
    inside = (x >= 0) & (x < config.width) & (y >= 0) & (y < config.height)
    inside &= generator.random(len(x)) < share
    t, p = ((stretch.t[inside] - start) / speed).astype(np.int64), stretch.p[inside]
    x, y = x[inside], y[inside]
    labels = boxes.between(start + 1, end + 1)
    label_t = ((labels.t - start) / speed).astype(np.int64)
    label_x, label_y = labels.x * scale - offset[0], labels.y * scale - offset[1]
    width, height = labels.width * scale, labels.height * scale

    if generator.random() < 0.5:
        x, label_x = config.width - 1 - x, config.width - label_x - width
    if generator.random() < config.backwards:
        whole = int(duration / speed)
        t, x, y, p = (whole - t)[::-1], x[::-1], y[::-1], 1 - p[::-1]
        label_t = whole - label_t
    if generator.random() < config.exchanged:
        p = 1 - p
    view = Events.from_arrays(t, x, y, p, config.width, config.height)
    found = Boxes.from_arrays(label_t, label_x, label_y, width, height, labels.class_id, labels.track_id)
    return view, found[are_seen(view, found, config.labels)]
