"""The values of the viewer component, and its files (multiway_event_detection/viewer)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from multiway_event_vision.events import Events
    from multiway_event_vision.result import Prediction

_PACKED = np.dtype([("t", "<u4"), ("x_p", "<u2"), ("y", "<u2")])


def empty_value(summary: str = "") -> dict[str, Any]:
    """The value of the viewer component (viewer/viewer.js draws it) before anything was opened."""
    return {"id": "", "parts": [], "summary": summary}


def packed(parts: Sequence[Events], start: int) -> str:
    """Events as the viewer takes them: eight bytes each, in base64; times count from `start` microseconds."""
    records = np.zeros(sum(map(len, parts)), _PACKED)
    at = 0
    for events in parts:
        record = records[at : at + len(events)]
        record["t"] = events.t - start
        record["x_p"] = events.x | (events.p.astype(np.uint16) << 15)
        record["y"] = events.y
        at += len(events)
    return base64.b64encode(records.tobytes()).decode("ascii")


def prediction_value(read: Prediction, start: int) -> list[Any]:
    """[time, [[x1, y1, x2, y2, class, score, age], ...]] of a read-out."""
    boxes = [
        [*(round(float(side), 1) for side in box_4), int(label), round(float(score), 3), int(age)]
        for box_4, label, score, age in zip(
            read.boxes_M4, read.class_M, read.score_M, read.age_M, strict=True
        )
    ]
    return [read.t - start, boxes]
