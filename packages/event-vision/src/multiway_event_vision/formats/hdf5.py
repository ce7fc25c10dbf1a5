"""HDF5 as DSEC, RVT, Metavision, v2e and others lay it out: found by what it holds, not by who wrote it.

Columns t, x, y, p as four data sets of one group (DSEC, RVT: `events/`), as one data set of records (Metavision:
`CD/events`) or as one of four columns (v2e: `events`, in the order t, x, y, p). `t_offset` beside them is added to
the times, as DSEC asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from multiway_core.errors import DataError
from multiway_core.files import atomic_write

from multiway_event_vision.events import LARGEST_SENSOR, Events, check_size
from multiway_event_vision.formats.column_names import COLUMN_NAMES, column_of
from multiway_event_vision.formats.source import Columns, Options, Source
from multiway_event_vision.formats.time_unit import named_unit

_ROWS = 1 << 17
_MAX_OBJECTS = 10_000
_CHUNK_ROWS = 1 << 16
_ECF = 36559
_FILTER_NAMES = {
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32015: "Zstandard",
    32026: "Blosc2",
    _ECF: "ECF",
}


def open_hdf5(path: Path, options: Options) -> Source:
    """Raises DataError: damaged, without such columns, of unequal lengths, or packed with a filter that is missing."""
    with _opened(path) as file:
        names = _find(path, file)
        sets = [_dataset(path, file, name) for name in dict.fromkeys(names.values())]
        for data in sets:
            _check_filters(path, data)
        lengths = {data.name: len(data) for data in sets}
        if len(set(lengths.values())) > 1:
            raise DataError(
                f"{path}: columns of unequal length: {lengths}; expected one value an event in each"
            )
        count = len(sets[0])
        size = _size(file, sets[0])
        offset = _offset(file, sets[0])
        unit = named_unit(_text(sets[0].parent.attrs.get("time_unit", "")))
    order = options.columns or "txyp"

    def columns() -> Iterator[Columns]:
        with _opened(path) as file:
            for low in range(0, count, _ROWS):
                rows = slice(low, min(low + _ROWS, count))
                if len(sets) == len(COLUMN_NAMES):
                    yield Columns(*(_dataset(path, file, names[c])[rows] for c in COLUMN_NAMES))
                    continue
                block = _dataset(path, file, names["t"])[rows]
                if block.dtype.names:
                    fields = {column_of(name): block[name] for name in block.dtype.names}
                    yield Columns(*(np.ascontiguousarray(fields[c]) for c in COLUMN_NAMES))
                else:
                    yield Columns(*(np.ascontiguousarray(block[:, order.index(c)]) for c in COLUMN_NAMES))

    return Source(
        "hdf5",
        columns,
        size,
        usual_sizes="640x480 for DSEC",
        guess_time_unit=True,
        time_unit=unit,
        expected_events=count,
        time_offset=offset,
    )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise DataError(f"{path}: not a whole HDF5 file ({error})") from error


def _find(path: Path, file: h5py.File) -> dict[str, str]:
    """t, x, y, p -> the data set that holds it; one name for all four if one set does."""
    groups: dict[str, dict[str, str]] = {}
    single: list[str] = []
    seen = 0

    def visit(name: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Dataset):
            fields = {column_of(field) for field in item.dtype.names or ()}
            if set(COLUMN_NAMES) <= fields or (
                item.ndim == 2 and item.shape[1] == 4 and item.dtype.kind in "iuf"
            ):
                single.append(name)
            group, _, last = name.rpartition("/")
            column = column_of(last)
            if column is not None and item.dtype.kind in "iufb" and item.ndim == 1:
                groups.setdefault(group, {}).setdefault(column, name)
        return True if seen > _MAX_OBJECTS else None

    file.visititems(visit)
    whole = {group: found for group, found in groups.items() if set(found) == set(COLUMN_NAMES)}
    if whole:
        return whole["events"] if "events" in whole else whole[min(whole)]
    if single:
        name = next((name for name in ("CD/events", "events") if name in single), single[0])
        return dict.fromkeys(COLUMN_NAMES, name)
    held = ", ".join(list(file)[:8]) or "nothing"
    raise DataError(
        f"{path}: no events in it; expected data sets t, x, y, p in one group, or CD/events; found {held}"
    )


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    item = file[name]
    if not isinstance(item, h5py.Dataset):
        raise DataError(f"{path}: {name} is no data set")
    return item


def _check_filters(path: Path, data: h5py.Dataset) -> None:
    """Raises DataError where the data is packed with a filter that is not on this machine, naming what brings it."""
    listed = data.id.get_create_plist()
    for code in (listed.get_filter(index)[0] for index in range(listed.get_nfilters())):
        if h5py.h5z.filter_avail(code):
            continue
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401  (registers its filters)
        if h5py.h5z.filter_avail(code):
            continue
        name = f"{code} ({_FILTER_NAMES[code]})" if code in _FILTER_NAMES else str(code)
        remedy = "install hdf5plugin"
        if code == _ECF:
            remedy = (
                "install OpenEB's hdf5_ecf plug-in and set HDF5_PLUGIN_PATH to its folder, or record as RAW"
            )
        elif code not in _FILTER_NAMES:
            remedy = "install hdf5plugin, or the filter's own plug-in, and set HDF5_PLUGIN_PATH to its folder"
        raise DataError(
            f"{path}: {data.name} is packed with the HDF5 filter {name}, which is missing here; {remedy}"
        )


def _size(file: h5py.File, data: h5py.Dataset) -> tuple[int, int] | None:
    """(width, height) from attributes or scalar data sets of the file, the group or the set."""
    for place in (data, data.parent, file):
        geometry = re.match(r"(\d{1,5})x(\d{1,5})$", _text(place.attrs.get("geometry", "")))
        sides = geometry.groups() if geometry else [_scalar(place, name) for name in ("width", "height")]
        if all(side is not None and 0 < int(side) <= LARGEST_SENSOR for side in sides):
            return int(sides[0] or 0), int(sides[1] or 0)
    return None


def _scalar(place: h5py.Dataset | h5py.Group, name: str) -> int | None:
    value = place.attrs.get(name)
    if value is None and isinstance(place, h5py.Group) and isinstance(place.get(name), h5py.Dataset):
        value = place[name][()] if place[name].size == 1 else None
    array = np.asarray(value)
    if value is None or array.size != 1 or array.dtype.kind not in "iuf":
        return None
    number = float(array.reshape(-1)[0])
    return int(number) if abs(number) < 1 << 60 else None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _offset(file: h5py.File, data: h5py.Dataset) -> int:
    return next((v for place in (data.parent, file) if (v := _scalar(place, "t_offset")) is not None), 0)


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
