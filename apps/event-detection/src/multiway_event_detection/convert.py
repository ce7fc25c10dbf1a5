"""The ``convert`` command: a recording in another format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from multiway_core.files import check_output

from multiway_event_detection.options import EventFormat, RecordingOptions
from multiway_event_detection.streams import CountedStream, Progress, open_recording


def convert_recording(
    path: Path,
    output: Path,
    recording_options: RecordingOptions,
    *,
    format: EventFormat | None = None,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[str]:
    """Write the events of ``path`` to ``output`` chunk by chunk, whole or not at all; yields lines about it.

    Raises InputError: a format that is not known or cannot hold the events, or ``output`` is ``path`` or exists;
    DataError: the recording is bad or without a size; OutputError.
    """
    from multiway_event_vision.formats import write_events, written_start

    check_output(output, inputs=[path], overwrite=overwrite)
    recording, _ = open_recording(path, recording_options)
    stream = CountedStream(recording, on_progress)
    write_events(output, stream, format=format)
    if recording.repairs is not None and (recording.repairs.outside or recording.repairs.unsorted):
        yield f"repaired: {recording.repairs}"
    start = stream.first_us or 0
    if (written := written_start(output, start, format=format)) != start:
        yield (
            f"warning: this format does not hold the absolute start time: {start / 1e6:.6f} s reads back as "
            f"{written / 1e6:.6f} s; npz, HDF5 and CSV keep it"
        )
    yield f"{stream.count:,} events of {recording.width} x {recording.height} pixels, {recording.format} before"
