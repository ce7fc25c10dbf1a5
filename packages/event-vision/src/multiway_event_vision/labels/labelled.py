"""Labelled recordings, many in one file, for training and evaluation of detectors.

One uncompressed ``.npz`` holds all events and boxes behind each other with the bounds of each recording.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from multiway_core.data_files import check_zip
from multiway_core.errors import DataError, InputError
from multiway_core.files import atomic_write
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.labels.boxes import Boxes

_EVENTS = {"t": np.int32, "x": np.uint16, "y": np.uint16, "p": np.uint8}  # int32: at most 35 minutes
_BOXES = ("t", "x", "y", "width", "height", "class_id", "track_id", "confidence")


@dataclass(frozen=True)
class LabelledRecording:
    """Events from time 0 on, and the objects at `label_times`: (L,) int64 microseconds, ascending.

    A label time without boxes says that nothing is there.
    """

    events: Events
    boxes: Boxes
    label_times: NDArray[np.int64]

    def boxes_at(self, time: int) -> Boxes:
        return self.boxes.between(time, time + 1)


def save_recordings(recordings: Sequence[LabelledRecording], path: Path) -> None:
    """Write recordings of one sensor size. Raises InputError on several sizes or none, OutputError."""
    sizes = {(r.events.width, r.events.height) for r in recordings}
    if len(sizes) != 1:
        raise InputError(f"{path}: recordings of {len(sizes)} sensor sizes; expected one")
    columns: dict[str, NDArray] = {"size": np.array(sizes.pop())}
    for name, dtype in _EVENTS.items():
        columns[f"events.{name}"] = np.concatenate(
            [getattr(r.events, name).astype(dtype) for r in recordings]
        )
    for name in _BOXES:
        columns[f"boxes.{name}"] = np.concatenate([getattr(r.boxes, name) for r in recordings])
    columns["label_times"] = np.concatenate([r.label_times for r in recordings])
    columns["bounds.events"] = _bounds([len(r.events.t) for r in recordings])
    columns["bounds.boxes"] = _bounds([len(r.boxes) for r in recordings])
    columns["bounds.label_times"] = _bounds([len(r.label_times) for r in recordings])
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **columns)


def load_recordings(path: Path) -> list[LabelledRecording]:
    """What :func:`save_recordings` wrote. Raises InputError."""
    try:
        check_zip(path)
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        width, height = (int(n) for n in columns["size"])
        bounds = {part: columns[f"bounds.{part}"] for part in ("events", "boxes", "label_times")}
        found = []
        for number in range(len(bounds["events"]) - 1):
            part = {name: slice(b[number], b[number + 1]) for name, b in bounds.items()}
            t, x, y, p = (columns[f"events.{name}"][part["events"]] for name in _EVENTS)
            events = Events(t.astype(np.int64), x, y, p, width, height)
            boxes = Boxes(**{name: columns[f"boxes.{name}"][part["boxes"]] for name in _BOXES})
            found.append(LabelledRecording(events, boxes, columns["label_times"][part["label_times"]]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, MemoryError, zlib.error, DataError) as error:
        raise InputError(f"{path}: not a file of labelled recordings ({error})") from error
    return found


def _bounds(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
