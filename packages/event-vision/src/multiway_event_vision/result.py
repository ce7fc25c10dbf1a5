"""Detection results of a recording: read-outs in order of time, and their cost.

Legend: M boxes of a read-out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NotRequired

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from multiway_event_vision.events import Events
from multiway_event_vision.labels import Boxes
from multiway_event_vision.ssla_det.cost import Cost

SCHEMA: Final = "multiway.event-detection/2"


class BoxJson(TypedDict):
    """A box of a read-out; see :class:`Prediction`."""

    xyxy: list[float]
    label: str
    class_id: int
    score: float
    age_us: int
    track: NotRequired[int | None]


class PredictionJson(TypedDict):
    """JSON form of :class:`Prediction`."""

    t_us: int
    boxes: list[BoxJson]


class CountersJson(TypedDict):
    """JSON form of :class:`Counters`."""

    events: int
    duration_us: int
    predictions: int
    boxes: int
    update_seconds: float
    predict_seconds: float
    newest_age_us: int | None
    mean_age_us: float | None
    us_per_event: float | None
    events_per_second: float | None
    mflop_per_event: dict[str, float | None] | None


class DetectionJson(TypedDict):
    """JSON form of :class:`DetectionResult`."""

    schema: str
    source: str
    model: str
    classes: list[str]
    width: int
    height: int
    period_us: int
    engine: str
    policy: str
    predictions: list[PredictionJson]
    counters: CountersJson


@dataclass(frozen=True)
class Prediction:
    """What the detector sees at one time, best box first."""

    t: int
    """Microseconds; all events before it were taken in."""
    boxes_M4: NDArray[np.float32]
    """(x1, y1, x2, y2) in pixels of the sensor, clipped to it."""
    score_M: NDArray[np.float32]
    class_M: NDArray[np.int64]
    age_M: NDArray[np.int64]
    """Microseconds from the newest event of the grid cell that a box came from to the read-out."""
    events: Events = field(repr=False)
    """Those since the last read-out."""
    track_M: NDArray[np.int64] | None = None
    """Numbers of objects over time, -1 for none (`tracking.Tracker`); None where boxes were not tracked."""

    def __len__(self) -> int:
        return len(self.score_M)

    def to_json(self, names: Sequence[str]) -> PredictionJson:
        """One element of the result's `predictions`."""
        boxes: list[BoxJson] = [
            {
                "xyxy": [round(float(side), 2) for side in box_4],
                "label": names[class_id],
                "class_id": int(class_id),
                "score": round(float(score), 4),
                "age_us": int(age),
            }
            for box_4, score, class_id, age in zip(
                self.boxes_M4, self.score_M, self.class_M, self.age_M, strict=True
            )
        ]
        if self.track_M is not None:
            for box, track in zip(boxes, self.track_M.tolist(), strict=True):
                box["track"] = track if track >= 0 else None
        return {"t_us": self.t, "boxes": boxes}

    def captions(self, names: Sequence[str]) -> list[str]:
        """What each box is, for a picture: `disc 0.92`, `#3 disc 0.92` where it is tracked."""
        tracks = [-1] * len(self) if self.track_M is None else self.track_M.tolist()
        return [
            f"{f'#{track} ' if track >= 0 else ''}{names[label]} {score:.2f}"
            for track, label, score in zip(tracks, self.class_M, self.score_M, strict=True)
        ]

    def to_boxes(self) -> Boxes:
        """As label files have them; sides that are 0 after clipping do not occur."""
        (x, y), (width, height) = self.boxes_M4[:, :2].T, (self.boxes_M4[:, 2:] - self.boxes_M4[:, :2]).T
        times = np.full(len(self), self.t)
        return Boxes.from_arrays(times, x, y, width, height, self.class_M, self.track_M, self.score_M)


@dataclass(frozen=True)
class Counters:
    """What a run did up to now.

    Seconds are of CPU time of the thread that it runs in, so that other work on the machine does not count; should
    PyTorch use more threads, theirs are not in it. Times and ages in microseconds are the stream's.
    """

    events: int = 0
    duration_us: int = 0
    """From the first event to the last read-out."""
    predictions: int = 0
    boxes: int = 0
    update_seconds: float = 0.0
    """In which events were taken in."""
    predict_seconds: float = 0.0
    """In which boxes were read: peeks, head, suppression."""
    newest_age_us: int | None = None
    """Age of the newest box of the last read-out that had boxes."""
    mean_age_us: float | None = None
    """Of all boxes of all read-outs."""
    cost: Cost | None = None

    @property
    def us_per_event(self) -> float | None:
        """Microseconds of CPU time an event, without read-outs."""
        return 1e6 * self.update_seconds / self.events if self.events else None

    @property
    def events_per_second(self) -> float | None:
        """Events worked off in a second of CPU time, read-outs included."""
        seconds = self.update_seconds + self.predict_seconds
        return self.events / seconds if seconds > 0 and self.events else None

    def to_json(self) -> dict[str, Any]:
        """The result's `counters`; operations in MFLOP an event, `null` what is not known."""
        cost = None
        if self.cost is not None:
            names = ("mean", "p50", "p99", "max", "peeks", "head", "worst")
            cost = {name: _known(getattr(self.cost, name) / 1e6) for name in names}
        counts = {key: value for key, value in asdict(self).items() if key != "cost"}
        derived = {"us_per_event": self.us_per_event, "events_per_second": self.events_per_second}
        rounded = {
            key: _known(value) if isinstance(value, float) else value
            for key, value in (counts | derived).items()
        }
        return rounded | {"mflop_per_event": cost}


@dataclass(frozen=True)
class DetectionResult:
    """A whole recording; `DetectionPipeline.detect` gives the same piece by piece."""

    head: dict[str, Any]
    """Schema, source, model, sensor and options: what the JSON has before its read-outs."""
    names: tuple[str, ...]
    predictions: list[Prediction]
    counters: Counters

    def to_json(self) -> dict[str, Any]:
        """JSON of the schema `multiway.event-detection/2`."""
        predictions = [read.to_json(self.names) for read in self.predictions]
        return self.head | {"predictions": predictions, "counters": self.counters.to_json()}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
