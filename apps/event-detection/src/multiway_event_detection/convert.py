"""The ``convert`` command: a recording in another format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from multiway_core.errors import InputError

from multiway_event_detection.options import EventFormat, Taking
from multiway_event_detection.taking import Progress, Watched, open_recording


def convert_recording(
    path: Path,
    output: Path,
    taking: Taking,
    *,
    format: EventFormat | None = None,
    on_progress: Progress | None = None,
) -> Iterator[str]:
    """Write the events of ``path`` to ``output`` chunk by chunk, whole or not at all; yields lines about it.

    Raises InputError: a format that is not known or cannot hold the events, or ``output`` is ``path``; DataError: the
    recording is bad or without a size; OutputError.
    """
    from multiway_event_vision.formats import write_events

    if os.path.realpath(path) == os.path.realpath(output):
        raise InputError(f"--output {output} would replace the recording itself; give another name")
    recording, _ = open_recording(path, taking)
    stream = Watched(recording, on_progress)
    write_events(output, stream, format=format)
    if recording.repairs is not None and (recording.repairs.outside or recording.repairs.unsorted):
        yield f"repaired: {recording.repairs}"
    yield f"{stream.count:,} events of {recording.width} x {recording.height} pixels, {recording.format} before"
