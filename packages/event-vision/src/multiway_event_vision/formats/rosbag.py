"""Bags of ROS 1 (version 2.0) with messages `EventArray` of `dvs_msgs` or `prophesee_event_msgs`.

The container is read by the package `rosbags`, the messages here: a header of ROS, height, width, and 13 bytes an event
(16 bits of x and of y, 32 bits of seconds and of nanoseconds, a byte of polarity).
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lz4.frame
import numpy as np
from multiway_core.errors import DataError, InputError

from multiway_event_vision.formats.source import Columns, Options, Source

if TYPE_CHECKING:
    from rosbags.rosbag1 import Reader

MAGIC = b"#ROSBAG V"
_MAX_CHUNK = 256 << 20  # bytes; recorders write less than one million
_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("seconds", "<u4"), ("nanoseconds", "<u4"), ("p", "u1")])


def open_rosbag(path: Path, options: Options) -> Source:
    """Raises DataError: damaged, without events, or with those of several cameras; InputError without `rosbags`."""
    with _opened(path) as (reader, topic):
        size = next((_parse(path, message)[0] for message in _messages(reader, topic)), None)

    def columns() -> Iterator[Columns]:
        with _opened(path) as (reader, topic):
            for message in _messages(reader, topic):
                own_size, events_N = _parse(path, message)
                if own_size != size:
                    raise DataError(f"{path}: pictures of {own_size} and of {size} pixels on {topic}")
                time_N = events_N["seconds"] * np.int64(1_000_000) + events_N["nanoseconds"] // 1000
                yield Columns(time_N, events_N["x"], events_N["y"], events_N["p"])

    return Source("rosbag", columns, size, {"topic": topic}, usual_sizes="240x180")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Reader, str]]:
    """The opened bag, and the one topic on which it has events."""
    try:
        from rosbags.rosbag1 import Reader, ReaderError
    except ImportError as error:
        raise InputError(
            f"{path}: bags of ROS need the package rosbags: pip install 'multiway-event-vision[rosbag]'"
        ) from error
    try:
        with Reader(path) as reader:
            reader.chunks = {
                place: chunk._replace(decompressor=_bounded(chunk.decompressor))
                for place, chunk in reader.chunks.items()
            }
            found = sorted({c.topic for c in reader.connections if c.msgtype.endswith("/EventArray")})
            if len(found) > 1:
                raise DataError(
                    f"{path}: events of {len(found)} cameras: {', '.join(found)}; "
                    "expected one topic, which `rosbag filter` keeps"
                )
            if not found:
                kinds = ", ".join(sorted({c.msgtype for c in reader.connections})[:8]) or "nothing"
                raise DataError(f"{path}: no messages EventArray in it; found {kinds}")
            yield reader, found[0]
    except (
        ReaderError, AssertionError, EOFError, KeyError, MemoryError, OSError, RuntimeError, ValueError, struct.error
    ) as error:  # fmt: skip
        raise DataError(f"{path}: not a whole bag of ROS ({error})") from error


def _bounded(decompress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The same without running out of memory at a hostile chunk."""
    if decompress is bz2.decompress:
        return lambda data: _limited(bz2.BZ2Decompressor(), data)
    if decompress is lz4.frame.decompress:
        return lambda data: _limited(lz4.frame.LZ4FrameDecompressor(), data)
    return decompress


def _limited(decompressor: Any, data: bytes) -> bytes:
    found: bytes = decompressor.decompress(data, max_length=_MAX_CHUNK)
    if not decompressor.eof:
        raise ValueError(f"a chunk is cut, or of more than {_MAX_CHUNK >> 20} MiB")
    return found


def _messages(reader: Reader, topic: str) -> Iterator[bytes]:
    connections = [c for c in reader.connections if c.topic == topic]
    for _, _, message in reader.messages(connections):
        yield message


def _parse(path: Path, message: bytes) -> tuple[tuple[int, int], np.ndarray]:
    """((width, height), the events) of a message."""
    (named,) = struct.unpack_from("<12xI", message)
    height, width, count = struct.unpack_from("<III", message, 16 + named)
    start = 28 + named
    if len(message) != start + count * _EVENT.itemsize:
        raise DataError(f"{path}: a message of {len(message)} bytes for {count} events is damaged")
    return (width, height), np.frombuffer(message, _EVENT, count, start)
