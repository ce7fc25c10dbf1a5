"""Opening a recording: the content tells its format, never its name alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from multiway_core.errors import DataError, InputError

from multiway_event_vision.events import check_size
from multiway_event_vision.formats import aedat3, aedat4, event_stream, rosbag
from multiway_event_vision.formats.dat import open_dat
from multiway_event_vision.formats.evt2 import open_evt2
from multiway_event_vision.formats.evt3 import open_evt3
from multiway_event_vision.formats.evt21 import open_evt21
from multiway_event_vision.formats.evt_header import evt_version
from multiway_event_vision.formats.hdf5 import open_hdf5
from multiway_event_vision.formats.nmnist import looks_like_nmnist, open_nmnist
from multiway_event_vision.formats.npz import open_npz
from multiway_event_vision.formats.prophesee_header import read_percent_header
from multiway_event_vision.formats.recording import Recording
from multiway_event_vision.formats.source import Options, Source, open_binary
from multiway_event_vision.formats.text import looks_like_text, open_text
from multiway_event_vision.formats.time_unit import MICROSECONDS_IN, TimeUnit
from multiway_event_vision.formats.validation import Repairs

Opener = Callable[[Path, Options], Source]
_MAGIC: tuple[tuple[bytes, Opener], ...] = (
    (b"PK\x03\x04", open_npz),
    (b"\x89HDF\r\n\x1a\n", open_hdf5),
    (aedat3.MAGIC, aedat3.open_aedat3),
    (aedat4.MAGIC, aedat4.open_aedat4),
    (event_stream.MAGIC, event_stream.open_event_stream),
    (rosbag.MAGIC, rosbag.open_rosbag),
)


def open_events(
    path: Path | str,
    *,
    size: tuple[int, int] | Literal["infer"] | None = None,
    time_unit: TimeUnit | None = None,
    columns: str | None = None,
    repair: bool = False,
) -> Recording:
    """Open a recording of any format that this package reads; nothing but its header is read yet.

    size: (width, height) in pixels, where the file does not tell or tells it wrong; "infer" reads the file through
    and takes the largest coordinates plus one. time_unit: "us", "ms", "s" or "ns", where the format leaves it open
    (npz, HDF5, text); whole numbers are microseconds otherwise. columns: the order of a text file's columns, such as
    "txyp". repair: sort events that are a little late, leave out those off the sensor and a cut last record.

    Raises DataError: unreadable, of an unknown format, damaged, or without a size; InputError: a bad argument.
    """
    path = Path(path)
    if time_unit is not None and time_unit not in MICROSECONDS_IN:
        raise InputError(f"the time unit {time_unit!r}; expected one of {', '.join(MICROSECONDS_IN)}")
    source = _source(path, Options(repair=repair, columns=columns))
    if size == "infer":
        size = _inferred_size(path, source)
    size = size or source.size
    if size is None:
        raise DataError(
            f"{path}: names no sensor size; say how many pixels wide and high it is, "
            f"such as {source.usual_sizes}, or infer it"
        )
    try:
        check_size(*size)
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    return Recording(path, size[0], size[1], source, time_unit, Repairs() if repair else None)


def _source(path: Path, options: Options) -> Source:
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a recording of events")
    with open_binary(path) as file:
        head = file.read(4096)
    if not head:
        raise DataError(f"{path} is empty; expected a recording of events")
    for magic, opener in _MAGIC:
        if head.startswith(magic):
            return opener(path, options)
    if head.startswith(b"%") and not looks_like_text(head):
        return _prophesee(path, options)
    if head.startswith(b"#!AER-DAT"):
        version = head[9:12].decode("ascii", "replace")
        raise DataError(
            f"{path}: AEDAT {version}; expected AEDAT 3.1 or 4, which iniVation's tools convert to"
        )
    if looks_like_text(head):
        return open_text(path, options)
    if path.suffix.lower() == ".dat":
        return open_dat(path, options)
    # Nothing marks these files: their records must make sense, or their name must promise it.
    if path.suffix.lower() == ".bin" or looks_like_nmnist(head, path.stat().st_size):
        return open_nmnist(path, options)
    raise DataError(f"{path}: of no known format; {KNOWN}")


KNOWN = (
    "known are DAT, RAW (EVT2, EVT2.1, EVT3), HDF5, AEDAT 3.1 and 4, .es, bags of ROS, "
    "N-MNIST .bin, npz, and text with columns t, x, y, p"
)


def _prophesee(path: Path, options: Options) -> Source:
    header, start = read_percent_header(path)
    version = evt_version(header)
    if version is None:
        if path.suffix.lower() == ".raw":
            raise DataError(
                f"{path}: its header names no encoding; expected a line '% evt 2.0' or '% evt 3.0'"
            )
        return open_dat(path, options)
    if version == "2.0":
        return open_evt2(path, header, start, options)
    if version == "2.1":
        return open_evt21(path, header, start, options)
    if version == "3.0":
        return open_evt3(path, header, start, options)
    raise DataError(f"{path}: RAW of the encoding EVT {version}; expected EVT 2.0, 2.1 or 3.0")


def _inferred_size(path: Path, source: Source) -> tuple[int, int]:
    width = height = 0
    for raw in source.columns():
        if len(raw.t):
            width, height = max(width, int(np.max(raw.x)) + 1), max(height, int(np.max(raw.y)) + 1)
    if not width or not height:
        raise DataError(
            f"{path}: holds no events to tell the sensor's size; say how many pixels wide and high it is"
        )
    return width, height
