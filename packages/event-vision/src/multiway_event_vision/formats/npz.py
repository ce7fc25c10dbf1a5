"""npz: the columns as arrays t, x, y, p, the sensor's size and the unit of the times; read block by block.

Names that others use are understood too: `timestamp`, `ts`, `polarity` and the like.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from multiway_core.data_files import check_zip
from multiway_core.errors import DataError
from multiway_core.files import atomic_write
from numpy.lib import format as npy

from multiway_event_vision.events import Events, check_size
from multiway_event_vision.formats.column_names import COLUMN_NAMES, find_columns
from multiway_event_vision.formats.source import BLOCK_RECORDS, Columns, Options, Source
from multiway_event_vision.formats.time_unit import named_unit

# All that zipfile, zlib and numpy's reader of headers are known to raise on damaged bytes.
_DAMAGE: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    OSError,
    RuntimeError,
    OverflowError,
)
_DAMAGE += (SyntaxError, TokenError, TypeError, MemoryError)


def open_npz(path: Path, options: Options) -> Source:
    """Raises DataError: no zip file, columns missing, of unequal length or of a type that is no number."""
    try:
        check_zip(path)
        with zipfile.ZipFile(path) as archive:
            members = {
                name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")
            }
            found = find_columns(path, members)
            lengths = {}
            for column, name in found.items():
                with archive.open(members[name]) as file:
                    lengths[column] = _header(path, name, file)[0]
            size = _size(archive, members)
            unit = named_unit(_text(archive, members, "time_unit"))
    except _DAMAGE as error:
        raise DataError(f"{path}: not a whole npz file ({error})") from error
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: columns of unequal length: {lengths}; expected one value an event in each")

    def columns() -> Iterator[Columns]:
        try:
            with zipfile.ZipFile(path) as archive, ExitStack() as stack:
                files = {c: stack.enter_context(archive.open(members[name])) for c, name in found.items()}
                types = {c: _header(path, found[c], file)[1] for c, file in files.items()}
                for low in range(0, lengths["t"], BLOCK_RECORDS):
                    count = min(BLOCK_RECORDS, lengths["t"] - low)
                    yield Columns(*(_read(files[c], types[c], count) for c in COLUMN_NAMES))
        except _DAMAGE as error:
            raise DataError(f"{path}: not a whole npz file ({error})") from error

    return Source("npz", columns, size, guess_time_unit=True, time_unit=unit, expected_events=lengths["t"])


def _header(path: Path, name: str, file: IO[bytes]) -> tuple[int, np.dtype[Any]]:
    """(length, dtype) of a one-dimensional array; `file` then stands at its first value."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{path}: {name} is of npy version {version}; expected 1.0 or 2.0")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.kind not in "iufb":
        raise DataError(f"{path}: {name} holds {dtype}; expected numbers")
    length = int(np.prod(shape, dtype=object))
    if len(shape) != 1 and not (len(shape) == 2 and 1 in shape):
        raise DataError(f"{path}: {name} has shape {shape}; expected one value an event")
    return length, dtype


def _read(file: IO[bytes], dtype: np.dtype[Any], count: int) -> np.ndarray:
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise EOFError("an array ends early")
    return np.frombuffer(data, dtype)


def _size(archive: zipfile.ZipFile, members: dict[str, str]) -> tuple[int, int] | None:
    values = []
    for name in ("width", "height"):
        if name not in members:
            return None
        with archive.open(members[name]) as file:
            data = file.read(4096)  # a scalar; more would be no size
        if len(data) == 4096:
            return None
        with archive.open(members[name]) as file:
            values.append(int(npy.read_array(file, allow_pickle=False).reshape(-1)[0]))
    return values[0], values[1]


def _text(archive: zipfile.ZipFile, members: dict[str, str], name: str) -> str | None:
    """The text of a scalar member."""
    if name not in members:
        return None
    with archive.open(members[name]) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        if shape != () or dtype.kind != "U" or dtype.itemsize > 1024:
            return None
        return str(np.frombuffer(file.read(dtype.itemsize), dtype)[0])


def write_npz(path: Path, chunks: Iterable[Events], size: tuple[int, int]) -> None:
    """Write t int64, x and y uint16, p uint8, width, height and time_unit ("us"), compressed. Raises OutputError."""
    check_size(*size)
    with atomic_write(path) as file, ExitStack() as stack:
        # A zip holds one array after the other: the columns wait on the disk, not in memory.
        spools = {name: stack.enter_context(TemporaryFile()) for name in COLUMN_NAMES}
        count = 0
        for events in chunks:
            count += len(events)
            for name, spool in spools.items():
                spool.write(np.ascontiguousarray(getattr(events, name)).data)
        types = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "|u1"}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, spool in spools.items():
                spool.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    described = {"descr": types[name], "fortran_order": False, "shape": (count,)}
                    npy.write_array_header_1_0(member, described)
                    while block := spool.read(1 << 20):
                        member.write(block)
            for name, value in (("width", size[0]), ("height", size[1]), ("time_unit", "us")):
                with archive.open(f"{name}.npy", "w") as member:
                    npy.write_array(member, np.array(value))
