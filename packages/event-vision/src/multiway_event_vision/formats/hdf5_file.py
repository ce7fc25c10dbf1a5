"""The HDF5 library at a file of others: the program of the process that `hdf5` asks.

Columns t, x, y, p as four data sets of one group (DSEC, RVT: `events/`), as one data set of records (Metavision:
`CD/events`) or as one of four columns (v2e: `events`, in the order t, x, y, p). `t_offset` beside them is added to
the times, as DSEC asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from multiway_core.errors import DataError
from multiway_core.guarded_process import answer_requests
from numpy.typing import NDArray

from multiway_event_vision.events import LARGEST_SENSOR
from multiway_event_vision.formats.column_names import COLUMN_NAMES, column_of

MAX_MEMORY = 4 << 30
_MAX_OBJECTS = 10_000
_ECF = 36559
_FILTER_NAMES = {
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32015: "Zstandard",
    32026: "Blosc2",
    _ECF: "ECF",
}


def describe(path: Path) -> dict[str, Any]:
    """What a file holds: ``names`` (column -> data set), ``count`` of events, ``size``, ``offset``, ``time_unit``.

    Raises DataError: damaged, without such columns, of unequal lengths, or packed with a filter that is missing.
    """
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
        return {
            "names": names,
            "count": len(sets[0]),
            "size": _size(file, sets[0]),
            "offset": _offset(file, sets[0]),
            "time_unit": _text(sets[0].parent.attrs.get("time_unit", "")),
        }


def read_rows(path: Path, names: dict[str, str], order: str, low: int, high: int) -> list[NDArray]:
    """t, x, y, p of the events ``low`` to ``high``; ``order``: of columns that have no names."""
    rows = slice(low, high)
    with _opened(path) as file:
        if len(set(names.values())) == len(COLUMN_NAMES):
            return [_dataset(path, file, names[c])[rows] for c in COLUMN_NAMES]
        block = _dataset(path, file, names["t"])[rows]
        if block.dtype.names:
            fields = {column_of(name): block[name] for name in block.dtype.names}
            return [fields[c] for c in COLUMN_NAMES]
        return [block[:, order.index(c)] for c in COLUMN_NAMES]


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


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    path = Path(request["path"])
    try:
        if "names" not in request:
            return describe(path), b""
        columns = read_rows(path, request["names"], request["order"], request["low"], request["high"])
        if any(column.dtype.kind not in "iufb" or column.ndim != 1 for column in columns):
            raise DataError(f"{path}: {request['names']['t']} holds something else than one number a column")
    except DataError as error:
        return {"refused": str(error)}, b""
    data = [column.tobytes() for column in columns]
    return {"columns": [[c.dtype.str, len(d)] for c, d in zip(columns, data, strict=True)]}, b"".join(data)


if __name__ == "__main__":
    answer_requests(_answer, MAX_MEMORY)
