"""N-Caltech101's annotation files: 16-bit numbers, of which the third to tenth are the corners of the one box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from multiway_core.errors import DataError, InputError, os_reason

from multiway_event_vision.labels.boxes import Boxes

_MIN_NUMBERS = 10
_LEFT, _TOP, _RIGHT, _BOTTOM = 2, 3, 4, 7  # of four corners x, y, from the upper left one clockwise


def read_ncaltech101_boxes(path: Path | str, class_id: int) -> Boxes:
    """The box of an `annotation_*.bin` file; it holds for the whole recording, so its time is 0.

    `class_id` is the caller's: the folder's name tells it. Raises DataError: unreadable, cut, or no box.
    """
    path = Path(path)
    try:
        data = path.read_bytes()[: 2 * _MIN_NUMBERS]
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}") from error
    if len(data) < 2 * _MIN_NUMBERS:
        raise DataError(f"{path}: {len(data)} bytes; expected at least {_MIN_NUMBERS} numbers of two bytes")
    numbers = np.frombuffer(data, "<i2").astype(np.float32)
    left, top = numbers[_LEFT], numbers[_TOP]
    try:
        width, height = numbers[_RIGHT] - left, numbers[_BOTTOM] - top
        return Boxes.from_arrays([0], [left], [top], [width], [height], [class_id])
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
