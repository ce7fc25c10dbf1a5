"""The sound of one video for another: packets as they are where MP4 can hold them, else as AAC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

_IN_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})


def has_sound(path: Path) -> bool:
    """Whether a file is a video with sound; False too for what cannot be read."""
    try:
        with av.open(str(path)) as container:
            return bool(container.streams.video and container.streams.audio)
    except (av.FFmpegError, OSError):
        return False


@contextmanager
def sound_of(source: Path | None, container: Any) -> Iterator[Callable[[float], None]]:
    """Yield a function that adds the sound of `source` up to a time (seconds) to the container that is written.

    Times count from the first frame of `source`; sound before it is left out. A source without sound adds nothing.
    Raises FFmpegError.
    """
    if source is None or not has_sound(source):
        yield lambda until: None
        return
    with av.open(str(source)) as given:
        stream, video = given.streams.audio[0], given.streams.video[0]
        start = float(video.start_time * video.time_base) if video.start_time and video.time_base else 0.0
        packets = (_copied if stream.codec_context.codec.canonical_name in _IN_MP4 else _encoded)(
            given, stream, container, start
        )
        held: list[tuple[float, Any]] = []

        def add_until(until: float) -> None:
            while True:
                item = held.pop() if held else next(packets, None)
                if item is None:
                    return
                if item[0] > until:
                    held.append(item)
                    return
                container.mux(item[1])

        first = next(packets, None)  # the stream must be there before the first packet of any is written
        if first is not None:
            held.append(first)
        yield add_until


def _copied(given: Any, stream: Any, container: Any, start: float) -> Iterator[tuple[float, Any]]:
    """(seconds, packet) as they are."""
    target = container.add_stream_from_template(stream)
    for packet in given.demux(stream):
        if packet.pts is None or packet.dts is None:
            continue
        shift = round(start / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet.pts >= 0:
            packet.stream = target
            yield float(packet.pts * packet.time_base), packet


def _encoded(given: Any, stream: Any, container: Any, start: float) -> Iterator[tuple[float, Any]]:
    """(seconds, packet) in AAC."""
    target = container.add_stream(
        "aac", rate=stream.rate, layout="mono" if stream.channels == 1 else "stereo"
    )
    for frame in [*given.decode(stream), None]:
        if frame is not None:
            if frame.pts is None or frame.time < start:
                continue
            frame.pts -= round(start / frame.time_base)
        for packet in target.encode(frame):
            if packet.pts is not None:
                yield float(packet.pts * packet.time_base), packet
