"""Prophesee's box files (Gen1, 1 Megapixel): a structured npy array, one record a box."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from tokenize import TokenError

import numpy as np
from multiway_core.errors import DataError, InputError
from multiway_core.files import atomic_write

from multiway_event_vision.labels.boxes import Boxes

# Names changed between the data sets; the first that a file has counts.
_NAMES = {
    "t": ("t", "ts"),
    "x": ("x",),
    "y": ("y",),
    "width": ("w", "width"),
    "height": ("h", "height"),
    "class_id": ("class_id",),
    "track_id": ("track_id",),
    "confidence": ("class_confidence", "confidence"),
}
# All that numpy's reader is known to raise on damaged bytes.
_DAMAGE = (
    OSError, ValueError, EOFError, SyntaxError, TokenError, TypeError, MemoryError, RecursionError, OverflowError,
)  # fmt: skip
_OPTIONAL = ("track_id", "confidence")
_RECORD = np.dtype(
    [("t", "<i8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "<u4"),
     ("track_id", "<u4"), ("class_confidence", "<f4")]
)  # fmt: skip


def read_prophesee_boxes(path: Path | str) -> Boxes:
    """The boxes of a `*_bbox.npy` file. Raises DataError: unreadable, other fields, or boxes that cannot be."""
    path = Path(path)
    try:
        # Not np.load, which opens what begins as a zip archive.
        with path.open("rb") as file:
            records = np.lib.format.read_array(file, allow_pickle=False)
    except _DAMAGE as error:
        raise DataError(f"{path}: no npy file of boxes ({error})") from error
    held = records.dtype.names
    if not held or records.ndim != 1:
        raise DataError(f"{path}: no array of records; expected fields t, x, y, w, h, class_id")
    columns = {}
    for name, names in _NAMES.items():
        field = next((field for field in names if field in held), None)
        if field is not None and records.dtype[field].kind in "iuf":
            columns[name] = records[field]
        elif name not in _OPTIONAL:
            raise DataError(f"{path}: no field {names[0]} of numbers; found {', '.join(held)}")
    try:
        with np.errstate(invalid="ignore"):
            return Boxes.from_arrays(**columns)
    except InputError as error:
        raise DataError(f"{path}: {error}") from error


def write_prophesee_boxes(path: Path | str, boxes: Boxes) -> None:
    """Write `boxes` as Prophesee's tools read them. Raises OutputError."""
    with prophesee_box_writer(path) as add:
        add(boxes)


@contextmanager
def prophesee_box_writer(path: Path | str) -> Iterator[Callable[[Boxes], None]]:
    """Yield a function that adds boxes, in order of time, to a label file that is whole when the block ends.

    Memory holds those of one call. Raises OutputError.
    """
    count = 0
    with TemporaryFile() as spool, atomic_write(Path(path)) as file:

        def add(boxes: Boxes) -> None:
            nonlocal count
            records = np.zeros(len(boxes), _RECORD)
            for field, name in zip(_RECORD.names or (), _NAMES, strict=True):
                values = getattr(boxes, name)
                records[field] = np.maximum(values, 0) if name == "track_id" else values
            spool.write(records.tobytes())
            count += len(boxes)

        yield add
        spool.seek(0)
        head = {"descr": np.lib.format.dtype_to_descr(_RECORD), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, head)
        shutil.copyfileobj(spool, file)
