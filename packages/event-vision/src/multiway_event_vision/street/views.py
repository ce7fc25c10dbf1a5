"""Small random views of long recordings, for training: a stretch of time, a crop, and augmentations.

A view is played faster or slower, backwards with polarities exchanged (what was brighter becomes darker), or with
polarities exchanged alone (a dark car instead of a bright one); it is scaled down and thinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from multiway_core.errors import ConfigError, InputError

from multiway_event_vision.events import Events
from multiway_event_vision.labels.boxes import Boxes
from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.street.recording import LabelConfig, are_seen


@dataclass(frozen=True)
class ViewConfig:
    """Ranges are drawn from evenly."""

    width: int = 128
    height: int = 96
    duration_us: int = 400_000
    scale: tuple[float, float] = (0.6, 1.0)
    speed: tuple[float, float] = (0.7, 2.0)
    backwards: float = 0.3  # probabilities
    exchanged: float = 0.3
    labels: LabelConfig = field(default_factory=LabelConfig)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.speed[0] <= self.speed[1]:
            raise ConfigError(
                f"scales {self.scale}, speeds {self.speed}; expected 0 < scale <= 1 and speeds above 0"
            )


def street_views(
    recordings: Sequence[LabelledRecording], count: int, config: ViewConfig | None = None, *, seed: int = 0
) -> list[LabelledRecording]:
    """`count` views, as many around each class; long recordings are seen more often, by their root.

    Raises InputError: no labels at all.
    """
    generator = np.random.default_rng(seed)
    most = max((int(r.boxes.class_id.max(initial=0)) for r in recordings), default=0)
    shares = np.array(
        [[np.sqrt((r.boxes.class_id == c).sum()) for r in recordings] for c in range(most + 1)]
    ).reshape(most + 1, -1)
    classes = np.flatnonzero(shares.sum(1))
    if not len(classes):
        raise InputError("no labels in any of the recordings to take views of")
    views = []
    for number in range(count):
        class_id = int(classes[number % len(classes)])
        weight = shares[class_id] / shares[class_id].sum()
        recording = recordings[int(generator.choice(len(recordings), p=weight))]
        views.append(random_view(recording, class_id, generator, config))
    return views


def random_view(
    recording: LabelledRecording,
    class_id: int,
    generator: np.random.Generator,
    config: ViewConfig | None = None,
) -> LabelledRecording:
    """A view around an object of a class that the recording has, on a sensor of the configured size."""
    config = config or ViewConfig()
    events = recording.events
    scale, speed = generator.uniform(*config.scale), generator.uniform(*config.speed)
    objects = recording.boxes[recording.boxes.class_id == class_id]
    chosen = objects[generator.integers(len(objects), size=1)]
    # The object is there at some moment in the second half, somewhere in the picture.
    length = round(config.duration_us * speed)
    start = int(chosen.t[0] - length * generator.uniform(0.5, 1))
    size = np.array([config.width, config.height])
    middle = np.array([chosen.x[0] + chosen.width[0] / 2, chosen.y[0] + chosen.height[0] / 2]) * scale
    room = np.array([events.width, events.height]) * scale - size
    corner = middle - generator.uniform(0.2, 0.8, 2) * size
    left, top = np.where(room > 0, np.clip(corner, 0, np.maximum(room, 0)), room / 2)

    stretch = events.between(start, start + length)
    x = np.floor(stretch.x * scale - left).astype(np.int64)
    y = np.floor(stretch.y * scale - top).astype(np.int64)
    # Pixels that share a place on the smaller sensor would send more than its one pixel does.
    inside = (x >= 0) & (x < config.width) & (y >= 0) & (y < config.height)
    inside &= generator.random(len(x)) < scale
    t, x, y, p = (stretch.t - start)[inside], x[inside], y[inside], stretch.p[inside]
    times = recording.label_times
    times = times[(times > start) & (times <= start + length)] - start
    boxes = recording.boxes.between(start + 1, start + length + 1)
    box_t = boxes.t - start
    if generator.random() < config.backwards:
        t, x, y, p = (length - t)[::-1], x[::-1], y[::-1], 1 - p[::-1]
        times, box_t = (length - times)[::-1], length - box_t
    if generator.random() < config.exchanged:
        p = 1 - p
    t, times, box_t = ((moments / speed).astype(np.int64) for moments in (t, times, box_t))
    view = Events.from_arrays(t, x, y, p, config.width, config.height)
    found = Boxes.from_arrays(
        box_t,
        boxes.x * scale - left,
        boxes.y * scale - top,
        boxes.width * scale,
        boxes.height * scale,
        boxes.class_id,
        boxes.track_id,
    )
    return LabelledRecording(view, clipped(found[are_seen(view, found, config.labels)], view), times)


def clipped(boxes: Boxes, events: Events) -> Boxes:
    """`boxes`, all partly on the sensor of `events`, without what lies off it."""
    x, y = np.maximum(boxes.x, 0), np.maximum(boxes.y, 0)
    width = np.minimum(boxes.x + boxes.width, events.width) - x
    height = np.minimum(boxes.y + boxes.height, events.height) - y
    return Boxes.from_arrays(boxes.t, x, y, width, height, boxes.class_id, boxes.track_id, boxes.confidence)
