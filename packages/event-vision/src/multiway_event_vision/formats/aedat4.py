"""iniVation AEDAT4: a header that lists the streams, then packets of any of them, each packed for itself.

The first stream of events is read; frames, IMU samples and triggers are passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import lz4.frame
import numpy as np
from multiway_core.errors import DataError

from multiway_event_vision.formats.flatbuffer import Damaged, Table
from multiway_event_vision.formats.source import Columns, Options, Source, open_binary

MAGIC = b"#!AER-DAT4.0\r\n"
_MAX_HEADER = 16 << 20
_MAX_PACKET = 256 << 20  # unpacked bytes; recorders write some hundred kilobytes
_NONE, LZ4, _LZ4_HIGH, _ZSTD, _ZSTD_HIGH = range(5)
EVENT = np.dtype({"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12],
                   "itemsize": 16})  # fmt: skip


def open_aedat4(path: Path, options: Options) -> Source:
    """Raises DataError: damaged, no stream of events, or packed in a way that needs a library that is missing."""
    total = path.stat().st_size
    with open_binary(path) as file:
        file.seek(len(MAGIC))
        prefix = file.read(4)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 4 or length > min(_MAX_HEADER, total):
            raise DataError(f"{path}: its header is cut or damaged")
        head = prefix + file.read(length)
    try:
        header = Table.root(head, b"IOHE")
        compression = header.number(0, "<i", _NONE)
        table = header.number(1, "<q", -1)
        described = header.text(2)
    except Damaged as error:
        raise DataError(f"{path}: its header is damaged ({error})") from error
    stream, size = _event_stream(path, described)
    unpack = _unpacker(path, compression)
    start = len(MAGIC) + 4 + length
    end = (
        table if start <= table <= total else total
    )  # a recording that broke off has no table behind the packets

    def columns() -> Iterator[Columns]:
        with open_binary(path) as file:
            at = start
            while at < end:
                file.seek(at)
                packet_head = file.read(min(8, end - at))
                stream_id, packet_bytes = (
                    struct.unpack("<ii", packet_head) if len(packet_head) == 8 else (0, 0)
                )
                if len(packet_head) < 8 or packet_bytes > end - at - 8:
                    if options.repair:
                        return
                    raise DataError(
                        f"{path}: cut within the packet at byte {at}; open with repair to leave it out"
                    )
                if packet_bytes < 0:
                    raise DataError(
                        f"{path}: a packet of {packet_bytes} bytes at byte {at}; the file is damaged"
                    )
                if stream_id == stream:
                    try:
                        packet = Table.root(unpack(file.read(packet_bytes)), b"EVTS")
                        events = packet.structures(0, EVENT)
                    except (Damaged, RuntimeError, EOFError, ValueError) as error:
                        raise DataError(f"{path}: the packet at byte {at} is damaged ({error})") from error
                    yield Columns(*(np.ascontiguousarray(events[name]) for name in "txyp"))
                at += 8 + packet_bytes

    return Source("aedat4", columns, size, usual_sizes="346x260")


def _event_stream(path: Path, described: str) -> tuple[int, tuple[int, int] | None]:
    """(number of the first stream of events, its sensor's size) from the header's XML."""
    if "<!" in described:  # entities could grow without bound, and no recorder writes any
        raise DataError(f"{path}: its header holds declarations; expected a plain list of streams")
    try:
        root = ElementTree.fromstring(described)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: its list of streams is damaged ({error})") from error
    kinds = []
    for node in root.iterfind(".//node[@name='outInfo']/node"):
        fields = {item.get("key"): (item.text or "").strip() for item in node.iterfind("attr")}
        info = {
            item.get("key"): (item.text or "").strip() for item in node.iterfind("node[@name='info']/attr")
        }
        kinds.append(fields.get("typeIdentifier", "?"))
        name = node.get("name", "")
        if kinds[-1] == "EVTS" and name.isdecimal() and len(name) < 10:
            width, height = info.get("sizeX", ""), info.get("sizeY", "")
            known = width.isdecimal() and height.isdecimal() and max(len(width), len(height)) < 6
            return int(name), (int(width), int(height)) if known else None
    raise DataError(f"{path}: holds no stream of events, only {', '.join(kinds) or 'none at all'}")


def _unpacker(path: Path, compression: int) -> Any:
    if compression == _NONE:
        return lambda data: data
    if compression in (LZ4, _LZ4_HIGH):
        return _unpack_lz4
    if compression in (_ZSTD, _ZSTD_HIGH):
        try:
            import zstandard
        except ImportError as error:
            raise DataError(f"{path}: packed with Zstandard; install the package zstandard") from error
        return lambda data: _unpack_zstd(zstandard, data)
    raise DataError(f"{path}: packed in the unknown way {compression}; expected none, LZ4 or Zstandard")


def _unpack_lz4(data: bytes) -> bytes:
    decompressor = lz4.frame.LZ4FrameDecompressor()
    unpacked = decompressor.decompress(data, max_length=_MAX_PACKET)
    if not decompressor.eof:
        raise Damaged("cut, or larger than any packet")
    return bytes(unpacked)


def _unpack_zstd(zstandard: Any, data: bytes) -> bytes:
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(data)
        unpacked = reader.read(_MAX_PACKET + 1)
    except zstandard.ZstdError as error:
        raise Damaged(str(error)) from error
    if len(unpacked) > _MAX_PACKET:
        raise Damaged("larger than any packet")
    return bytes(unpacked)
