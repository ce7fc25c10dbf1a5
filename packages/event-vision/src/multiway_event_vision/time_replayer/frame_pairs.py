"""Frames and events side by side, in the memory of one stretch between two frames, however long both are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from multiway_core.errors import InputError

from multiway_event_vision.events import Events, EventStream, concatenate
from multiway_event_vision.time_replayer.frames import Frame

MAX_EVENTS = 50_000_000  # of one stretch


class FramePairs:
    """Yields (frame, next frame, the events from one to the other); counts the events.

    stream: None where no events are wanted. offset: microseconds to add to every event's time, to have the frames'
    clock.
    """

    def __init__(self, frames: Iterable[Frame], stream: EventStream | None, *, offset: int = 0) -> None:
        self._frames, self._stream, self._offset = frames, stream, offset
        self.frames = self.used = 0
        self.begin: int | None = None  # of the frames
        self.end: int | None = None
        self.first_event: int | None = None
        self.last_event: int | None = None

    def __iter__(self) -> Iterator[tuple[Frame, Frame, Events]]:
        """Raises InputError: fewer than two frames, no event while the frames last, or too many between two."""
        chunks = self._chunks()
        held: Events | None = None
        for frame, following in pairwise(self._counted()):
            self.begin = frame.t if self.begin is None else self.begin
            if held is None:
                height, width = frame.image_HW3.shape[:2]
                held = Events.empty(
                    *((self._stream.width, self._stream.height) if self._stream else (width, height))
                )
            self.end = following.t
            parts = [held]
            while not len(parts[-1]) or parts[-1].t[-1] < following.t:
                chunk = next(chunks, None)
                if chunk is None:
                    break
                parts.append(chunk[int(np.searchsorted(chunk.t, frame.t)) :])
                if sum(map(len, parts)) > MAX_EVENTS:
                    raise InputError(
                        f"more than {MAX_EVENTS:,} events between the frames of {frame.t} us and {following.t} us; "
                        "check the times' unit"
                    )
            held = concatenate(parts)
            now, held = held.between(frame.t, following.t), held.between(following.t, 1 << 62)
            self.used += len(now)
            yield frame, following, now
        if self.begin is None or self.end is None:
            raise InputError(
                f"{self.frames} frame in the video; expected 2 or more to make frames between them"
            )
        if not self.used and self._stream is not None:
            raise InputError(self._elsewhere(self.begin, self.end))

    def _counted(self) -> Iterator[Frame]:
        for frame in self._frames:
            self.frames += 1
            yield frame

    def _chunks(self) -> Iterator[Events]:
        for chunk in self._stream.chunks() if self._stream is not None else ():
            if self.first_event is None:
                self.first_event = int(chunk.t[0]) + self._offset
            self.last_event = int(chunk.t[-1]) + self._offset
            yield Events(chunk.t + self._offset, chunk.x, chunk.y, chunk.p, chunk.width, chunk.height)

    def _elsewhere(self, begin: int, end: int) -> str:
        if self.first_event is None:
            return "no events at all: nothing tells what happened between the frames"
        return (
            f"no event while the frames last ({_seconds(begin)} to {_seconds(end)}): the events are of "
            f"{_seconds(self.first_event)} to {_seconds(self.last_event or 0)}; shift them by an offset"
        )


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1e6:.6g} s"
