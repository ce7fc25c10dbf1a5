"""A video and the boxes of its objects -> a recording of events and its labels.

The video is scaled to the sensor, frames are put in between along optical flow, and the simulator does the rest. An
object that stands still sends nothing, so it is no label either: only boxes with enough recent events are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from multiway_core.errors import ConfigError
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.labels.boxes import Boxes
from multiway_event_vision.simulator import FlowUpsampled, SensorConfig, Simulation, Video
from multiway_event_vision.street.tracks import TrackConfig, boxes_of, link

CLASS_NAMES = ("person", "vehicle")


@dataclass(frozen=True)
class LabelConfig:
    """Which boxes are labels, and when. Pixels of the sensor, microseconds."""

    every_us: int = 50_000
    recent_us: int = 100_000  # events that count are not older
    min_events: int = 40
    min_density: float = 0.08  # events a pixel of the box
    min_side: float = 6.0
    min_visible: float = 0.5  # share of the box on the sensor

    def __post_init__(self) -> None:
        if self.every_us < 1 or self.recent_us < 1:
            raise ConfigError(f"labels every {self.every_us} us from {self.recent_us} us; expected 1 or more")


@dataclass(frozen=True)
class RecordingConfig:
    """How a video becomes a recording."""

    width: int = 304  # of the sensor in pixels; the height follows
    frames_per_second: float = 160.0  # at least, with those put in between
    sensor: SensorConfig = field(default_factory=lambda: SensorConfig(noise_hz=0.1))
    tracks: TrackConfig = field(default_factory=TrackConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)


def street_recording(
    video: Path | str, detections: Boxes, config: RecordingConfig | None = None, *, seed: int = 0
) -> tuple[Events, Boxes]:
    """Events and labels of a video whose objects a teacher found, `detections` in pixels of the video.

    Raises DataError: no readable video.
    """
    config = config or RecordingConfig()
    own_width = Video(video).width
    source = Video(video, width=config.width)
    factor = max(1, int(np.ceil(config.frames_per_second / source.frames_per_second)))
    events = Simulation(FlowUpsampled(source, factor), config.sensor, seed=seed).read()
    tracks = link(detections, config.tracks)
    last = max((track.times[-1] for track in tracks), default=0)
    times = np.arange(config.labels.every_us, last + 1, config.labels.every_us)
    boxes = scaled(boxes_of(tracks, times, config.tracks), config.width / own_width)
    return events, boxes[are_seen(events, boxes, config.labels)]


def scaled(boxes: Boxes, scale: float) -> Boxes:
    """`boxes` on a picture `scale` times as large."""
    x, y, width, height = (scale * side for side in (boxes.x, boxes.y, boxes.width, boxes.height))
    return Boxes.from_arrays(boxes.t, x, y, width, height, boxes.class_id, boxes.track_id, boxes.confidence)


def are_seen(events: Events, boxes: Boxes, config: LabelConfig) -> NDArray[np.bool_]:
    """(N,) which boxes lie on the sensor, are large enough and had enough events."""
    left, right = np.maximum(boxes.x, 0), np.minimum(boxes.x + boxes.width, events.width)
    top, bottom = np.maximum(boxes.y, 0), np.minimum(boxes.y + boxes.height, events.height)
    area = boxes.width * boxes.height
    visible = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    good = (visible >= config.min_visible * area) & (np.minimum(boxes.width, boxes.height) >= config.min_side)
    for t in np.unique(boxes.t[good]):
        recent = events.between(int(t) - config.recent_us, int(t))
        # A count for every corner of a pixel: four of them give the events of a box.
        count_HW = np.zeros((events.height + 1, events.width + 1))
        np.add.at(count_HW, (recent.y.astype(np.int64) + 1, recent.x.astype(np.int64) + 1), 1)
        count_HW = count_HW.cumsum(0).cumsum(1)
        here = np.flatnonzero(good & (boxes.t == t))
        x1, x2, y1, y2 = (np.round(side[here]).astype(int) for side in (left, right, top, bottom))
        inside = count_HW[y2, x2] - count_HW[y1, x2] - count_HW[y2, x1] + count_HW[y1, x1]
        good[here] = inside >= np.maximum(config.min_events, config.min_density * visible[here])
    return good
