"""Recordings and their labels in a folder, as the common data sets lay them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from multiway_core.errors import DataError, InputError

from multiway_event_vision.events import Events, concatenate
from multiway_event_vision.formats import open_events
from multiway_event_vision.labels.boxes import Boxes
from multiway_event_vision.labels.coco import read_coco_boxes
from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.labels.prophesee import read_prophesee_boxes

RECORDING_ENDINGS: Final = frozenset(
    {".aedat", ".aedat4", ".bag", ".bin", ".csv", ".dat", ".es", ".h5", ".hdf5", ".npz", ".raw", ".txt"}
)
CLASSES_FILE: Final = "classes.txt"
MAX_EVENTS: Final = 40_000_000
"""Of a recording, that training holds in memory: its beginning."""
DSEC_CLASSES: Final = (
    "pedestrian", "rider", "car", "bus", "truck", "bicycle", "motorcycle", "train",
)  # fmt: skip
DSEC_SIZE: Final = (640, 480)
_DSEC_EVENTS, _DSEC_LABELS = ("events", "left", "events.h5"), Path("object_detections/left/tracks.npy")


@dataclass(frozen=True)
class DatasetItem:
    """A recording and where its labels are."""

    recording: Path
    labels: Path


def labelled_files(recordings: Path, labels: Path | None = None) -> list[DatasetItem]:
    """A folder's recordings (searched through) that have labels, in order of their names.

    Labels of `x_td.dat` or `x.raw` are `x_bbox.npy` or `x.json` beside it, or in the same place below the folder
    `labels`; those of N-Caltech101's `image_0001.bin` are `annotation_0001.bin` below that folder; those of DSEC's
    `SEQUENCE/events/left/events.h5` are `SEQUENCE/object_detections/left/tracks.npy`. Raises InputError: none.
    """
    found = []
    for file in sorted(file for file in recordings.rglob("*") if file.suffix.lower() in RECORDING_ENDINGS):
        label = _labels_of(file, (labels or recordings) / file.parent.relative_to(recordings))
        if label is not None:
            found.append(DatasetItem(file, label))
    if not found:
        raise InputError(
            f"{recordings}: no recording with labels; expected x_bbox.npy or x.json for x.raw or x_td.dat, beside it "
            "or in the folder of labels, or DSEC's folders"
        )
    return found


def _labels_of(recording: Path, folder: Path) -> Path | None:
    if recording.parts[-3:] == _DSEC_EVENTS:
        tracks = recording.parents[2] / _DSEC_LABELS
        return tracks if tracks.is_file() else None
    stem = recording.stem.removesuffix("_td")
    names = [f"{stem}_bbox.npy", f"{stem}.npy", f"{stem}.json", f"{stem.replace('image', 'annotation')}.bin"]
    return next((p for name in names if (p := folder / name).is_file() and p != recording), None)


def read_labelled(folder: Path) -> tuple[dict[str, LabelledRecording], tuple[str, ...]]:
    """(the labelled recordings of a folder by name, the names of their classes), for training.

    Names are COCO's categories, else the lines of `classes.txt` in the folder, else DSEC's, else `class 0` and so on.
    Raises InputError: no labelled recordings, or classes that contradict one another; DataError: unreadable.
    """
    items = labelled_files(folder)
    names = _class_names(folder, items)
    found = {}
    for item in items:
        if item.labels.suffix.lower() not in (".npy", ".json"):
            raise InputError(f"{item.labels}: train takes labels of Prophesee (.npy), DSEC or COCO (.json)")
        boxes = _boxes(item, names)
        events = _beginning(item.recording)
        first = int(events.t[0])
        boxes = boxes.between(first, int(events.t[-1]) + 1)
        moved = Events(events.t - first, events.x, events.y, events.p, events.width, events.height)
        columns = vars(boxes) | {"t": boxes.t - first}
        name = item.recording.relative_to(folder).as_posix()
        found[name] = LabelledRecording(moved, Boxes(**columns), np.unique(boxes.t) - first)
    if not any(len(recording.boxes) for recording in found.values()):
        raise InputError(
            f"{folder}: no label falls into the time of its recording; are both in microseconds of one clock?"
        )
    return found, names


def _class_names(folder: Path, items: Sequence[DatasetItem]) -> tuple[str, ...]:
    of_coco: list[str] = []
    for item in items:
        if item.labels.suffix.lower() == ".json":
            of_coco += [name for name in read_coco_boxes(item.labels)[1] if name not in of_coco]
    if of_coco:
        return tuple(of_coco)
    listed = folder / CLASSES_FILE
    if listed.is_file():
        names = tuple(
            line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()
        )
        if not names:
            raise InputError(f"{listed}: no names in it; expected one a line, in the order of class_id")
        return names
    if any(item.recording.parts[-3:] == _DSEC_EVENTS for item in items):
        return DSEC_CLASSES
    most = max((int(read_prophesee_boxes(item.labels).class_id.max(initial=0)) for item in items), default=0)
    return tuple(f"class {number}" for number in range(most + 1))


def _boxes(item: DatasetItem, names: Sequence[str]) -> Boxes:
    if item.labels.suffix.lower() == ".json":
        boxes, own = read_coco_boxes(item.labels)
        places = np.array([list(names).index(name) for name in own] or [0], np.int32)
        return Boxes(**vars(boxes) | {"class_id": places[boxes.class_id]})
    boxes = read_prophesee_boxes(item.labels)
    if len(boxes) and int(boxes.class_id.max()) >= len(names):
        raise InputError(
            f"{item.labels}: a label of class {int(boxes.class_id.max())}; there are names for {len(names)}: "
            f"{', '.join(names[:8])}"
        )
    return boxes


def _beginning(path: Path) -> Events:
    """At most `MAX_EVENTS` of a recording. Raises DataError: none."""
    # DSEC's files do not tell their sensor.
    size = DSEC_SIZE if path.parts[-3:] == _DSEC_EVENTS else None
    parts, count = [], 0
    for chunk in open_events(path, size=size).chunks():
        parts.append(chunk[: MAX_EVENTS - count])
        count += len(parts[-1])
        if count >= MAX_EVENTS:
            break
    if not count:
        raise DataError(f"{path}: no events in it")
    return concatenate(parts)
