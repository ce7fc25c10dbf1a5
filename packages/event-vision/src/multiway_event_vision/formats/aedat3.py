"""iniVation AEDAT 3.1 (cAER, jAER; the DVS Gesture data set): a text header, then packets of one kind of event each.

Polarity events have 8 bytes: bit 0 valid, bit 1 polarity, 15 bits of y, 15 bits of x; then 31 bits of microseconds,
above which the packet's header counts rounds. All other packets are passed over.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from multiway_core.errors import DataError

from multiway_event_vision.formats.source import Columns, Options, Source, open_binary

MAGIC = b"#!AER-DAT3.1"
_END = b"#!END-HEADER"
_MAX_HEADER = 1 << 20
_MAX_PACKET = 256 << 20  # bytes; recorders write some kilobytes
_PACKET = struct.Struct(
    "<hhiiiiii"
)  # type, source, bytes an event, place of its time, rounds, room, events, valid
_POLARITY = 1
_EVENT_BYTES = 8
_SIZES = {"DVS128": (128, 128), "DAVIS128": (128, 128), "DAVIS208": (208, 192), "DAVIS240": (240, 180)}
_SIZES |= {"DAVIS346": (346, 260), "DAVIS640": (640, 480)}


def open_aedat3(path: Path, options: Options) -> Source:
    """Raises DataError: its header has no end, or a packet is cut or damaged."""
    with open_binary(path) as file:
        lines, start = _header(path, file)
    camera = next((line.partition(":")[2].strip() for line in lines if line.startswith("#Source")), "")
    size = next((size for name, size in _SIZES.items() if camera.upper().startswith(name)), None)
    header = {"source": camera} if camera else {}

    def columns() -> Iterator[Columns]:
        with open_binary(path) as file:
            file.seek(start)
            while head := file.read(_PACKET.size):
                at = file.tell() - len(head)
                data = b""
                if len(head) == _PACKET.size:
                    kind, _, event_bytes, _, rounds, room, count, _ = _PACKET.unpack(head)
                    length = event_bytes * room
                    if not (0 <= count <= room and event_bytes > 0 and length <= _MAX_PACKET and rounds >= 0):
                        raise DataError(f"{path}: the packet at byte {at} is damaged")
                    data = file.read(length)
                if len(head) < _PACKET.size or len(data) < length:
                    if options.repair:
                        return
                    raise DataError(
                        f"{path}: cut within the packet at byte {at}; open with repair to leave it out"
                    )
                if kind != _POLARITY:
                    continue
                if event_bytes != _EVENT_BYTES:
                    raise DataError(
                        f"{path}: events of {event_bytes} bytes at byte {at}; expected {_EVENT_BYTES}"
                    )
                yield _columns(np.frombuffer(data, "<u4", 2 * count), rounds)

    return Source("aedat3", columns, size, header, usual_sizes="128x128")


def _header(path: Path, file: BinaryIO) -> tuple[list[str], int]:
    """Lines of the header, and where the packets begin."""
    lines: list[str] = []
    while file.tell() < _MAX_HEADER:
        line = file.readline(4096)
        if line.startswith(_END):
            return lines, file.tell()
        if not re.match(rb"#.*\n", line, re.DOTALL):
            break
        lines.append(line.decode("utf-8", "replace").strip())
    raise DataError(f"{path}: its header is cut or damaged; expected a line {_END.decode()}")


def _columns(words: np.ndarray, rounds: int) -> Columns:
    data_N, time_N = words[::2], words[1::2]
    valid_N = (data_N & 1).astype(bool)
    data_N, time_N = data_N[valid_N], time_N[valid_N]
    return Columns(
        (rounds << 31) + time_N.astype(np.int64),
        (data_N >> 17).astype(np.uint16),
        (data_N >> 2).astype(np.uint16) & np.uint16(0x7FFF),
        (data_N >> 1).astype(np.uint8) & np.uint8(1),
    )
