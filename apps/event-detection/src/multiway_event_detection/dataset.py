"""Recordings with their labels, as data sets lay them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError, InputError
from multiway_event_vision.labels import (
    Boxes,
    read_coco_boxes,
    read_ncaltech101_boxes,
    read_prophesee_boxes,
)
from multiway_event_vision.labels.folder import DatasetItem, labelled_files
from multiway_event_vision.metrics.detection import TimedBoxes

KNOWN = "Prophesee .npy, COCO .json, N-Caltech101 .bin"
_WHOLE = -1  # the time of a label that holds for the whole recording


def labelled_recordings(recording: Path, labels: Path | None) -> list[DatasetItem]:
    """A file with its labels, or a folder's recordings with theirs, as `labelled_files` finds them.

    Raises InputError: no such file or folder, or no labels.
    """
    if not recording.is_dir():
        if labels is None:
            raise InputError(
                f"{recording}: give its labels: --labels FILE (Prophesee .npy, COCO .json, N-Caltech101 .bin)"
            )
        if not labels.is_file():
            raise InputError(f"--labels {labels}: no such file")
        return [DatasetItem(recording, labels)]
    if labels is not None and not labels.is_dir():
        raise InputError(f"--labels {labels}: {recording} is a folder, so expected a folder of labels too")
    return labelled_files(recording, labels)


def read_labels(case: DatasetItem, class_names: Sequence[str]) -> Boxes:
    """The labels of a recording. Those of N-Caltech101 hold for all of it: `timed` gives them its end.

    COCO's categories go to the model's classes of their names; N-Caltech101's class is the name of the recording's
    folder. Raises DataError: unreadable; InputError: a class that the model does not have.
    """
    ending = case.labels.suffix.lower()
    if ending == ".npy":
        return read_prophesee_boxes(case.labels)
    if ending == ".json":
        boxes, names = read_coco_boxes(case.labels)
        used = np.unique(boxes.class_id)
        place = np.array(
            [_place(name, class_names, case) if i in used else 0 for i, name in enumerate(names)], np.int32
        )
        columns = vars(boxes) | {"class_id": place[boxes.class_id] if len(boxes) else boxes.class_id}
        return Boxes(**columns)
    if ending == ".bin":
        name = case.recording.resolve().parent.name
        boxes = read_ncaltech101_boxes(case.labels, _place(name, class_names, case))
        return Boxes(**vars(boxes) | {"t": np.full(len(boxes), _WHOLE)})
    raise InputError(f"{case.labels}: expected labels ({KNOWN})")


def _place(name: str, class_names: Sequence[str], case: DatasetItem) -> int:
    if name not in class_names:
        raise InputError(
            f"{case.labels}: the class {name!r} is none of the model's: {', '.join(class_names[:8])}"
            f"{', ...' if len(class_names) > 8 else ''}"
        )
    return list(class_names).index(name)


def timed(boxes: Boxes, end: int) -> TimedBoxes:
    """As the metrics take labels; `end` is the time of those that hold for the whole recording."""
    x1, y1 = boxes.x.astype(np.float64), boxes.y.astype(np.float64)
    corners_N4 = np.stack([x1, y1, x1 + boxes.width, y1 + boxes.height], axis=1)
    t = np.where(boxes.t == _WHOLE, end, boxes.t)
    return TimedBoxes(t, corners_N4, boxes.class_id.astype(np.int64))


def checked(cases: Sequence[DatasetItem], class_names: Sequence[str]) -> Iterator[tuple[DatasetItem, Boxes]]:
    """Every case with its labels. Raises DataError, InputError at a class that the model does not have."""
    for case in cases:
        boxes = read_labels(case, class_names)
        if len(boxes) and int(boxes.class_id.max()) >= len(class_names):
            raise DataError(
                f"{case.labels}: a label of class {int(boxes.class_id.max())}; the model has {len(class_names)}: "
                f"{', '.join(class_names[:8])}"
            )
        yield case, boxes
