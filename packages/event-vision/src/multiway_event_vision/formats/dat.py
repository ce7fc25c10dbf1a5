"""Prophesee DAT, versions 1 and 2: records of eight bytes, a time and an address, little-endian.

Version 2: uint32 microseconds; uint32 with x in bits 0-13, y in 14-27, polarity in 28. Version 1: x in bits 0-8,
y in 9-16, polarity in 17. A file without any header holds records of version 2 and has no type bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError, InputError
from multiway_core.files import atomic_write
from numpy.typing import NDArray

from multiway_event_vision.events import Events, check_size
from multiway_event_vision.formats.native_decoders import decode_dat, library
from multiway_event_vision.formats.prophesee_header import header_size, read_percent_header
from multiway_event_vision.formats.source import (
    Columns,
    Options,
    Source,
    open_binary,
    record_blocks,
    whole_records,
)
from multiway_event_vision.formats.unwrap import Unwrapper

RECORD_BYTES = 8
_CHANGE_DETECTION_TYPES = (0, 12)  # Event2D and EventCD: the same bits
_OLD_WIDTH, _OLD_HEIGHT = 512, 256  # what version 1 can address


def open_dat(path: Path, options: Options) -> Source:
    """Raises DataError: other kinds of events, a cut record, unreadable."""
    header, start = read_percent_header(path)
    version = _version(path, header)
    if start:
        with open_binary(path) as file:
            file.seek(start)
            kind = file.read(2)
        if len(kind) < 2:
            raise DataError(
                f"{path}: ends after its header; expected two bytes with the events' type and size"
            )
        if kind[1] != RECORD_BYTES or kind[0] not in _CHANGE_DETECTION_TYPES:
            raise DataError(
                f"{path}: holds records of type {kind[0]} with {kind[1]} bytes; "
                f"only brightness events (type 0 or 12, 8 bytes) can be read"
            )
        start += 2
    count = whole_records(path, start, RECORD_BYTES, options.repair)
    decode = _decode_old if version < 2 else _decode

    def columns() -> Iterator[Columns]:
        unwrap = Unwrapper(32, 1 << 31)
        for words in record_blocks(path, start, "<u8", count):
            yield decode(words.view("<u4").reshape(-1, 2), unwrap)

    return Source(
        "dat", columns, header_size(header), header, "304x240 for the Gen1 data set", expected_events=count
    )


def _version(path: Path, header: dict[str, str]) -> int:
    text = header.get("version", "2").split()[0] if header.get("version") else "2"
    if text not in ("1", "2"):
        raise DataError(f"{path}: DAT version {text!r}; expected 1 or 2")
    return int(text)


def _decode(words_N2: NDArray[np.uint32], unwrap: Unwrapper) -> Columns:
    built = library()
    if built is None:
        return decode_by_numpy(words_N2, unwrap)
    columns, is_sorted = decode_dat(built, words_N2)
    return columns._replace(t=unwrap(columns.t, is_sorted=is_sorted))


def decode_by_numpy(words_N2: NDArray[np.uint32], unwrap: Unwrapper) -> Columns:
    """The events of records of version 2, without a compiler."""
    # Halves of the address word as uint16: x lies in the low one, polarity in the high one, y in both.
    address_N = np.ascontiguousarray(words_N2[:, 1])
    halves_N2 = address_N.view("<u2").reshape(-1, 2)
    low_N, high_N = halves_N2[:, 0], halves_N2[:, 1]
    y_N = (address_N >> 14).astype(np.uint16)
    y_N &= 0x3FFF
    return Columns(
        unwrap(words_N2[:, 0]),
        low_N & np.uint16(0x3FFF),
        y_N,
        ((high_N >> np.uint16(12)) & np.uint16(1)).astype(np.uint8),
    )


def _decode_old(words_N2: NDArray[np.uint32], unwrap: Unwrapper) -> Columns:
    address_N = words_N2[:, 1]
    return Columns(
        unwrap(words_N2[:, 0]),
        (address_N & 0x1FF).astype(np.uint16),
        (address_N >> 9 & 0xFF).astype(np.uint16),
        (address_N >> 17 & 1).astype(np.uint8),
    )


def write_dat(path: Path, chunks: Iterable[Events], size: tuple[int, int], *, version: int = 2) -> None:
    """Write `chunks` of a sensor of `size` (width, height) as DAT; times are kept modulo 2^32 microseconds.

    Raises InputError: version 1 cannot address the sensor, which may have 512 x 256 pixels. OutputError.
    """
    width, height = size
    check_size(width, height)
    if version not in (1, 2):
        raise InputError(f"DAT version {version}; expected 1 or 2")
    if version == 1 and (width > _OLD_WIDTH or height > _OLD_HEIGHT):
        raise InputError(
            f"DAT version 1 addresses {_OLD_WIDTH} x {_OLD_HEIGHT} pixels, not {width} x {height}; use version 2"
        )
    y_shift, p_shift = (14, 28) if version == 2 else (9, 17)
    with atomic_write(path) as file:
        text = "% Data file containing CD events.\n% Version {}\n% Height {}\n% Width {}\n"
        file.write(text.format(version, height, width).encode() + bytes((12, RECORD_BYTES)))
        for events in chunks:
            words_N2 = np.empty((len(events), 2), "<u4")
            words_N2[:, 0] = events.t & 0xFFFFFFFF
            words_N2[:, 1] = events.x.astype(np.uint32) | events.y.astype(np.uint32) << y_shift
            words_N2[:, 1] |= events.p.astype(np.uint32) << p_shift
            file.write(words_N2.data)
