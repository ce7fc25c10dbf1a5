"""HDF5 as DSEC, RVT, Metavision, v2e and others lay it out: found by what it holds, not by who wrote it.

The library in C that reads HDF5 crashes on some damaged files. It reads in a process of its own (`hdf5_file`), so that
such a file costs one line of error and not the command or the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from multiway_core.errors import DataError
from multiway_core.files import atomic_write
from multiway_core.guarded_process import GuardedProcess, ProcessDied

from multiway_event_vision.events import Events, check_size
from multiway_event_vision.formats.source import Columns, Options, Source
from multiway_event_vision.formats.time_unit import named_unit

OPEN_SECONDS = (
    15.0  # for what a file holds, with the start of the process; damaged ones can make the library loop
)
MAX_SECONDS = 60.0  # for one block of events, also from a slow disk
_ROWS = 1 << 17
_CHUNK_ROWS = 1 << 16
_READER = GuardedProcess(["-m", "multiway_event_vision.formats.hdf5_file"])


def open_hdf5(path: Path, options: Options) -> Source:
    """Raises DataError: damaged, without such columns, of unequal lengths, or packed with a filter that is missing."""
    found, _ = _ask(path, OPEN_SECONDS)
    count = int(found["count"])
    request = {"names": found["names"], "order": options.columns or "txyp"}

    def columns() -> Iterator[Columns]:
        for low in range(0, count, _ROWS):
            answer, data = _ask(path, MAX_SECONDS, low=low, high=min(low + _ROWS, count), **request)
            yield Columns(*_arrays(answer["columns"], data))

    return Source(
        "hdf5",
        columns,
        found["size"] and (found["size"][0], found["size"][1]),
        usual_sizes="640x480 for DSEC",
        guess_time_unit=True,
        time_unit=named_unit(found["time_unit"]),
        expected_events=count,
        time_offset=found["offset"],
    )


def _ask(path: Path, seconds: float, **request: Any) -> tuple[dict[str, Any], bytes]:
    try:
        answer, data = _READER.ask({"path": str(path.absolute())} | request, seconds)
    except ProcessDied as error:
        raise DataError(
            f"{path}: not a whole HDF5 file (the library that reads it crashed or took too much memory or time)"
        ) from error
    if "refused" in answer:
        raise DataError(answer["refused"].replace(str(path.absolute()), str(path)))
    return answer, data


def _arrays(layout: list[tuple[str, int]], data: bytes) -> Iterator[np.ndarray]:
    start = 0
    for dtype, length in layout:
        yield np.frombuffer(data, dtype, length // np.dtype(dtype).itemsize, start)
        start += length


def write_hdf5(path: Path, chunks: Iterable[Events], size: tuple[int, int]) -> None:
    """Write `events/{t,x,y,p}`, `ms_to_idx` (number of the first event of every millisecond) and the sensor's size.

    Packed with gzip, which every HDF5 library reads. `t` is counted from `t_offset`, as in DSEC. Raises OutputError.
    """
    check_size(*size)
    with atomic_write(path) as handle, h5py.File(handle.name, "w") as file:
        group = file.create_group("events")
        group.attrs["width"], group.attrs["height"] = size
        group.attrs["time_unit"] = "us"
        settings: dict[str, Any] = {"maxshape": (None,), "chunks": (_CHUNK_ROWS,)}
        settings |= {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        types = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
        sets = {name: group.create_dataset(name, (0,), dtype, **settings) for name, dtype in types.items()}
        index = file.create_dataset("ms_to_idx", (0,), np.uint64, **settings)
        count, offset, next_ms = 0, 0, 0
        for events in chunks:
            if not len(events):
                continue
            if not count:
                offset = int(events.t[0])
            t = events.t - offset
            for name, data in sets.items():
                data.resize((count + len(events),))
                data[count:] = t if name == "t" else getattr(events, name)
            last_ms = int(t[-1]) // 1000
            if last_ms >= next_ms:
                starts = np.searchsorted(t, np.arange(next_ms, last_ms + 1) * 1000) + count
                index.resize((last_ms + 1,))
                index[next_ms:] = starts
                next_ms = last_ms + 1
            count += len(events)
        file.create_dataset("t_offset", data=np.int64(offset))
