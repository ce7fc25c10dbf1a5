"""Event Stream (.es), brightness events of version 2: a byte with 7 bits of time and the polarity, then x and y.

The lowest bit of an event's first byte is its polarity, the others the microseconds since the event before. A byte
0xFF is no event: 127 microseconds pass. 0xFE means nothing. Events in a row without such bytes are decoded at once.
The format counts y from the bottom, `Events` from the top.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray

from multiway_event_vision.formats.source import Columns, Options, Source, open_binary

MAGIC = b"Event Stream"
_HEADER_BYTES = 20
_EVENT_BYTES = 5
_BLOCK_BYTES = 1 << 18
_OVERFLOW, _RESET, _OVERFLOW_US = 0xFF, 0xFE, 127
_KINDS = {0: "generic", 2: "ATIS", 3: "asynchronous", 4: "colour"}


def open_event_stream(path: Path, options: Options) -> Source:
    """Raises DataError: another version or kind of events, or a cut header."""
    with open_binary(path) as file:
        head = file.read(_HEADER_BYTES)
    if len(head) < _HEADER_BYTES:
        raise DataError(f"{path}: ends within its header of {_HEADER_BYTES} bytes")
    version, kind = head[12:15], head[15]
    if version[0] != 2:
        raise DataError(f"{path}: Event Stream version {'.'.join(map(str, version))}; expected 2")
    if kind != 1:
        raise DataError(
            f"{path}: holds {_KINDS.get(kind, f'unknown ({kind})')} events; expected brightness (DVS) events"
        )
    width, height = int.from_bytes(head[16:18], "little"), int.from_bytes(head[18:20], "little")

    def columns() -> Iterator[Columns]:
        rest, t = b"", 0
        with open_binary(path) as file:
            file.seek(_HEADER_BYTES)
            while read := file.read(_BLOCK_BYTES):
                data = rest + read
                decoded, used, t = decode(data, t)
                rest = data[used:]
                yield decoded._replace(y=height - 1 - decoded.y.astype(np.int32))
        if rest and not options.repair:
            raise DataError(
                f"{path}: the last event is cut: {len(rest)} of {_EVENT_BYTES} bytes; open with repair to leave it out"
            )

    return Source("es", columns, (width, height))


def decode(data: bytes, t: int) -> tuple[Columns, int, int]:
    """(the whole events of `data`, number of bytes used, time after them), from time `t` on."""
    bytes_N = np.frombuffer(data, np.uint8)
    # A special byte can end a run only where its place is that of a first byte: sorted by remainder modulo five.
    special = np.flatnonzero(bytes_N >= _RESET)
    by_phase = [special[special % _EVENT_BYTES == phase].tolist() for phase in range(_EVENT_BYTES)]
    runs: list[NDArray[np.uint8]] = []
    at, extra, delays, number = 0, 0, [], 0
    while at < len(data):
        value = data[at]
        if value >= _RESET:
            extra += _OVERFLOW_US if value == _OVERFLOW else 0
            at += 1
            continue
        places = by_phase[at % _EVENT_BYTES]
        index = bisect_left(places, at)
        end = places[index] if index < len(places) else at + (len(data) - at) // _EVENT_BYTES * _EVENT_BYTES
        if end == at:
            break  # an event that goes on in the next block
        runs.append(bytes_N[at:end])
        delays.append((number, extra))
        number += (end - at) // _EVENT_BYTES
        at, extra = end, 0
    records_N5 = (
        np.concatenate(runs).reshape(-1, _EVENT_BYTES) if runs else np.zeros((0, _EVENT_BYTES), np.uint8)
    )
    steps_N = (records_N5[:, 0] >> 1).astype(np.int64)
    for first, delay in delays:
        steps_N[first] += delay
    t_N = np.cumsum(steps_N) + t
    addresses_N2 = np.ascontiguousarray(records_N5[:, 1:]).view("<u2")
    p_N = records_N5[:, 0] & np.uint8(1)
    columns = Columns(t_N, addresses_N2[:, 0].copy(), addresses_N2[:, 1].copy(), p_N)
    return columns, at, (int(t_N[-1]) if len(t_N) else t) + extra
