"""A labelled set of short recordings, in one file, and as frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from multiway_core.data_files import check_zip
from multiway_core.errors import DataError
from multiway_core.files import atomic_write
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.recurrent.frames import Values, event_frames


@dataclass(frozen=True, eq=False)
class EventSet:
    """N recordings of one sensor, all from time 0 on, with class numbers."""

    t: NDArray[np.int64]
    """Microseconds, of all recordings one behind the other."""
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]
    end_N: NDArray[np.int64]
    """Behind each recording's last event."""
    label_N: NDArray[np.int64]
    size: NDArray[np.int64]
    """(2,): width, height in pixels."""

    @classmethod
    def of(cls, recordings: Iterable[tuple[Events, int]]) -> EventSet:
        """From (events, class) pairs, at least one."""
        parts, labels = zip(*recordings, strict=True)
        t, x, y, p = (np.concatenate([getattr(part, name) for part in parts]) for name in "txyp")
        size = np.array([parts[0].width, parts[0].height])
        return cls(t, x, y, p, np.cumsum([len(part) for part in parts]), np.array(labels, np.int64), size)

    def __len__(self) -> int:
        return len(self.label_N)

    def recording(self, number: int) -> Events:
        """The events of one recording, as views."""
        part = slice(int(self.end_N[number - 1]) if number else 0, int(self.end_N[number]))
        width, height = (int(side) for side in self.size)
        return Events(self.t[part], self.x[part], self.y[part], self.p[part], width, height)

    def frames(
        self, dt_us: int, steps: int, *, values: Values = "binary", shrink: int = 1
    ) -> NDArray[np.uint8]:
        """(N, steps, 2, height, width) uint8, see `event_frames`; `shrink` joins so many pixels a side into one."""
        return np.stack(
            [
                event_frames(_shrunk(self.recording(number), shrink), dt_us, steps, values=values)
                for number in range(len(self))
            ]
        )

    def save(self, path: Path) -> None:
        """Raises OutputError."""
        with atomic_write(path) as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> EventSet:
        """What `save` wrote. Raises DataError."""
        try:
            check_zip(path)
            with np.load(path, allow_pickle=False) as file:
                return cls(**{name: file[name] for name in cls.__dataclass_fields__})
        except (OSError, ValueError, KeyError, BadZipFile, MemoryError, DataError) as error:
            raise DataError(
                f"{path} is not a set of recordings as this package writes them; delete it to make it anew"
            ) from error


def _shrunk(events: Events, shrink: int) -> Events:
    if shrink == 1:
        return events
    width, height = -(-events.width // shrink), -(-events.height // shrink)
    x, y = events.x // np.uint16(shrink), events.y // np.uint16(shrink)
    return Events(events.t, x, y, events.p, width, height)
