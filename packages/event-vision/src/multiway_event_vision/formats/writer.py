"""Writing a recording in the format that the file name's ending or the caller names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from multiway_core.errors import InputError

from multiway_event_vision.events import Events, EventStream
from multiway_event_vision.formats.aedat4_writer import write_aedat4
from multiway_event_vision.formats.dat import write_dat
from multiway_event_vision.formats.evt2 import write_evt2
from multiway_event_vision.formats.evt3_writer import write_evt3
from multiway_event_vision.formats.hdf5 import write_hdf5
from multiway_event_vision.formats.npz import write_npz
from multiway_event_vision.formats.text import write_csv

Writer = Callable[[Path, Iterable[Events], tuple[int, int]], None]
WRITERS: dict[str, Writer] = {
    "dat": write_dat,
    "evt2": write_evt2,
    "evt3": write_evt3,
    "aedat4": write_aedat4,
    "npz": write_npz,
    "hdf5": write_hdf5,
    "csv": write_csv,
}
_BY_SUFFIX = {".dat": "dat", ".raw": "evt3", ".npz": "npz", ".h5": "hdf5", ".hdf5": "hdf5", ".csv": "csv"}
_BY_SUFFIX |= {".txt": "csv", ".aedat4": "aedat4"}
_TIME_BITS = {"dat": 32, "evt2": 34, "evt3": 24}


def write_events(path: Path | str, events: Events | EventStream, *, format: str | None = None) -> None:
    """Write `events` to `path`, whole or not at all; a stream goes through in chunks.

    format: one of `WRITERS`; without it the name's ending decides (.raw is EVT3). Raises InputError: no such format,
    or the format cannot hold these events; DataError from a bad stream; OutputError.
    """
    path = Path(path)
    chunks = [events] if isinstance(events, Events) else events.chunks()
    WRITERS[_format_of(path, format)](path, chunks, (events.width, events.height))


def written_start(path: Path | str, start: int, *, format: str | None = None) -> int:
    """The time (microseconds) that readers find for a first event of `start`: DAT and RAW keep the low bits alone.

    Arguments and errors as `write_events`.
    """
    return start % (1 << _TIME_BITS.get(_format_of(Path(path), format), 63))


def _format_of(path: Path, format: str | None) -> str:
    name = format or _BY_SUFFIX.get(path.suffix.lower())
    if name not in WRITERS:
        raise InputError(
            f"cannot write {path}: format {format or path.suffix!r}; expected {', '.join(WRITERS)}"
        )
    return name
