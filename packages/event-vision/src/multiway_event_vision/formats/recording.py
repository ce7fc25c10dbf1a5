"""An opened recording: what its header says, and its events chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from multiway_core.errors import InputError

from multiway_event_vision.events import Events
from multiway_event_vision.formats.source import Columns, Source
from multiway_event_vision.formats.time_unit import TimeUnit
from multiway_event_vision.formats.validation import Repairs, validated

CHUNK_EVENTS = 1 << 18
_TYPES = (np.int64, np.uint16, np.uint16, np.uint8)
_MAX_EXPECTED = 1 << 32  # a header may promise anything; memory is taken as it is filled


@dataclass(frozen=True)
class Recording:
    """A file of events; an `EventStream`. Reading it holds a block of it in memory, however long it is."""

    path: Path
    width: int
    height: int
    source: Source
    time_unit: TimeUnit | None = None
    repairs: Repairs | None = field(default=None, compare=False)

    @property
    def format(self) -> str:
        """The format's short name, as `open_events` found it from the content."""
        return self.source.format

    @property
    def header(self) -> dict[str, str]:
        """What a text header says, keys in lower case."""
        return self.source.header

    def chunks(self, chunk_events: int = CHUNK_EVENTS) -> Iterator[Events]:
        """Yield all events from the start, between 1 and `chunk_events` at once.

        Raises DataError at the first event that cannot be right; InputError if `chunk_events` is not positive.
        """
        if chunk_events < 1:
            raise InputError(f"chunks of {chunk_events} events; expected 1 or more")
        if self.repairs is not None:
            self.repairs.outside = self.repairs.unsorted = 0
        for events in validated(
            self.path, self.source, (self.width, self.height), self.time_unit, self.repairs
        ):
            for low in range(0, len(events), chunk_events):
                yield events[low : low + chunk_events] if len(events) > chunk_events else events

    def read(self, start: int | None = None, end: int | None = None) -> Events:
        """All events, or those with start <= t < end (microseconds), in memory. Raises DataError as `chunks`."""
        whole = start is None and end is None
        found = _Growing(self.source.expected_events if whole else 0)
        for events in self.chunks():
            if end is not None and events.t[0] >= end:
                break
            if not whole:
                low = int(events.t[0]) if start is None else start
                events = events.between(low, int(events.t[-1]) + 1 if end is None else end)
            found.add(events)
        return found.events(self.width, self.height)


class _Growing:
    """Columns that events are added to, with room for as many as are expected: one copy, and no list of chunks."""

    def __init__(self, expected: int) -> None:
        self._count = 0
        self._columns = Columns(*(np.empty(min(expected, _MAX_EXPECTED), dtype) for dtype in _TYPES))

    def add(self, events: Events) -> None:
        end = self._count + len(events)
        if end > len(self._columns.t):
            self._enlarge(max(end, 2 * len(self._columns.t)))
        for column, values in zip(self._columns, (events.t, events.x, events.y, events.p), strict=True):
            column[self._count : end] = values
        self._count = end

    def events(self, width: int, height: int) -> Events:
        # What is left over was never touched, so it takes no memory.
        t, x, y, p = (column[: self._count] for column in self._columns)
        return Events(t, x, y, p, width, height)

    def _enlarge(self, length: int) -> None:
        larger = Columns(*(np.empty(length, dtype) for dtype in _TYPES))
        for new, old in zip(larger, self._columns, strict=True):
            new[: self._count] = old[: self._count]
        self._columns = larger
