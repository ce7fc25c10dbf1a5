"""Writing AEDAT4: one stream of events in packets, each an LZ4 frame; iniVation's tools and others read it.

Two kinds of FlatBuffers are written, whose layout is fixed but for one vector at the end, so that a template of bytes
is all that is needed. Times stay as they are: AEDAT4 holds microseconds of 64 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import lz4.frame
import numpy as np
from multiway_core.files import atomic_write

from multiway_event_vision.events import Events, check_size
from multiway_event_vision.formats.aedat4 import EVENT, LZ4, MAGIC

_PACKET_EVENTS = 1 << 14
_NO_TABLE = -1


def write_aedat4(path: Path, chunks: Iterable[Events], size: tuple[int, int]) -> None:
    """Write `chunks` of a sensor of `size` (width, height). Raises InputError: no sensor's size; OutputError."""
    check_size(*size)
    with atomic_write(path) as file:
        file.write(MAGIC + _header(_description(size).encode()))
        for events in chunks:
            for low in range(0, len(events), _PACKET_EVENTS):
                packet = lz4.frame.compress(_packet(events[low : low + _PACKET_EVENTS]))
                file.write(struct.pack("<ii", 0, len(packet)) + packet)


def _packet(events: Events) -> bytes:
    """A table with one field, a vector of events."""
    records = np.zeros(len(events), EVENT)
    for name in "txyp":
        records[name] = getattr(events, name)
    # Root at 16, type; vtable of 6 bytes: a table of 8, its field at 4; table: vtable 8 before, vector 4 behind.
    body = struct.pack("<I4s3H2xiII", 16, b"EVTS", 6, 8, 4, 8, 4, len(events)) + records.tobytes()
    return struct.pack("<I", len(body)) + body


def _header(description: bytes) -> bytes:
    """A table with three fields: compression, place of the table of packets, description of the streams."""
    # Root at 20, type; vtable of 10 bytes: a table of 20, fields at 4, 8, 16; table: vtable 12 before, text 4 behind.
    table = struct.pack("<I4s5H2xiiqI", 20, b"IOHE", 10, 20, 4, 8, 16, 12, LZ4, _NO_TABLE, 4)
    body = table + struct.pack("<I", len(description)) + description + b"\0"
    return struct.pack("<I", len(body)) + body


def _description(size: tuple[int, int]) -> str:
    def attributes(**values: tuple[str, object]) -> str:
        return "".join(
            f'<attr key="{key}" type="{kind}">{value}</attr>' for key, (kind, value) in values.items()
        )

    place = "/mainloop/Recorder/outInfo/"
    stream = attributes(
        compression=("string", "LZ4"),
        originalModuleName=("string", "multiway"),
        originalOutputName=("string", "events"),
        typeDescription=("string", "Array of events (polarity ON/OFF)."),
        typeIdentifier=("string", "EVTS"),
    )
    info = attributes(
        sizeX=("int", size[0]), sizeY=("int", size[1]), source=("string", "multiway"), tsOffset=("long", 0)
    )
    return (
        f'<dv version="2.0"><node name="outInfo" path="{place}"><node name="0" path="{place}0/">{stream}'
        f'<node name="info" path="{place}0/info/">{info}</node></node></node></dv>'
    )
