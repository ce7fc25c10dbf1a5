"""What a format's reader hands over: the header's facts and a way to run through the raw columns.

The readers know bytes only. Whether times are in order, pixels on the sensor and polarities two-valued is judged
for all of them alike in `validation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from multiway_core.errors import DataError, os_reason
from numpy.typing import NDArray

from multiway_event_vision.formats.time_unit import TimeUnit

BLOCK_RECORDS = 1 << 16  # its arrays stay in a processor's second cache
_LARGE_BYTES = 8 << 20


class Columns(NamedTuple):
    """Events as the file has them: any number types, unchecked; t unwrapped, in the file's unit."""

    t: NDArray
    x: NDArray
    y: NDArray
    p: NDArray


@dataclass(frozen=True)
class Source:
    """An opened file. `columns()` starts anew at each call and holds one block in memory."""

    format: str
    columns: Callable[[], Iterator[Columns]]
    size: tuple[int, int] | None = None  # (width, height) as the header tells
    header: dict[str, str] = field(default_factory=dict)
    usual_sizes: str = "640x480"  # what an error suggests where the header has none
    float_seconds: bool = False  # by this format's custom, times with a fraction are seconds
    guess_time_unit: bool = False  # the format does not fix the unit of whole-number times
    time_unit: TimeUnit | None = None  # as this file names it
    expected_events: int = 0  # about as many as there are, where that is known
    time_offset: int = 0  # microseconds to add to every time, once they are microseconds


@dataclass(frozen=True)
class Options:
    """How to take a file; see `open_events`."""

    repair: bool = False
    columns: str | None = None


def open_binary(path: Path) -> BinaryIO:
    """Raises DataError where the file cannot be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}") from error


def whole_records(path: Path, start: int, record_bytes: int, repair: bool) -> int:
    """Number of whole records from byte `start` to the file's end.

    Raises DataError for a cut last record, unless `repair` drops it.
    """
    total = path.stat().st_size - start
    count, rest = divmod(max(total, 0), record_bytes)
    if rest and not repair:
        raise DataError(
            f"{path}: the last record is cut: {rest} of {record_bytes} bytes after {count} whole records; "
            "open with repair to leave it out"
        )
    return count


def record_blocks(path: Path, start: int, dtype: str, count: int) -> Iterator[NDArray]:
    """Yield `count` records from byte `start` on, `BLOCK_RECORDS` at once.

    Raises DataError: unreadable, or the file has become shorter since it was opened.
    """
    # glibc gives freed arrays back to the system and fetches them anew for the next block, which takes longer than
    # decoding them. It stops that, up to a size, once an array of that size has been freed.
    np.empty(_LARGE_BYTES, np.uint8)
    with open_binary(path) as file:
        file.seek(start)
        while count:
            wanted = min(count, BLOCK_RECORDS)
            data = file.read(wanted * np.dtype(dtype).itemsize)
            block = np.frombuffer(data, dtype, len(data) // np.dtype(dtype).itemsize)
            if len(block) < wanted:
                raise DataError(f"{path}: ends while being read, {count - len(block)} records early")
            yield block
            count -= wanted
