"""The .bin files of N-MNIST and N-Caltech101: five bytes an event, and nothing else.

x, y, then 24 bits with the highest byte first: polarity, and 23 bits of microseconds. A record with y = 240 is no
event: from there on 2^13 microseconds more have passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiway_event_vision.formats.source import Columns, Options, Source, record_blocks, whole_records
from multiway_event_vision.formats.unwrap import running_count

RECORD_BYTES = 5
OVERFLOW_ROW = 240
_OVERFLOW_US = 1 << 13
_MIN_RECORDS = 20  # fewer could be in order by chance


def looks_like_nmnist(head: bytes, file_bytes: int) -> bool:
    """Whether a file without any mark can be one: whole records whose times never go back."""
    records = len(head) // RECORD_BYTES
    if file_bytes % RECORD_BYTES or records < _MIN_RECORDS:
        return False
    columns = NmnistDecoder()(np.frombuffer(head, f"V{RECORD_BYTES}", records))
    if len(columns.t) < records // 2:
        return False
    is_row = columns.x.max() < OVERFLOW_ROW and columns.y.max() < OVERFLOW_ROW
    return bool(is_row and (np.diff(columns.t) >= 0).all() and columns.t[-1] > columns.t[0])


def open_nmnist(path: Path, options: Options) -> Source:
    """Raises DataError: a cut record."""
    count = whole_records(path, 0, RECORD_BYTES, options.repair)

    def columns() -> Iterator[Columns]:
        decode = NmnistDecoder()
        for records in record_blocks(path, 0, f"V{RECORD_BYTES}", count):
            yield decode(records)

    usual = "34x34 for N-MNIST, 240x180 for N-Caltech101"
    return Source("nmnist", columns, usual_sizes=usual, expected_events=count)


class NmnistDecoder:
    """Decodes records block by block; counts the overflows so far."""

    def __init__(self) -> None:
        self._overflows = 0

    def __call__(self, records_N: NDArray) -> Columns:
        """The events of `records_N` (5 raw bytes each)."""
        bytes_N5 = np.ascontiguousarray(records_N).view(np.uint8).reshape(-1, RECORD_BYTES)
        y_N = bytes_N5[:, 1]
        upper_N = bytes_N5[:, 2].astype(np.int64)
        t_N = (upper_N & 0x7F) << 16 | bytes_N5[:, 3].astype(np.int64) << 8 | bytes_N5[:, 4]
        is_overflow_N = y_N == OVERFLOW_ROW
        if self._overflows or is_overflow_N.any():
            count_N = running_count(is_overflow_N).astype(np.int64) + self._overflows
            t_N += count_N * _OVERFLOW_US
            self._overflows = int(count_N[-1])
        is_event_N = ~is_overflow_N
        p_N = (upper_N >> 7).astype(np.uint8)
        return Columns(t_N[is_event_N], bytes_N5[is_event_N, 0], y_N[is_event_N], p_N[is_event_N])
