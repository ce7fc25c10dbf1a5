"""Transcript files written incrementally: ``.partial`` until complete, kept when the run is interrupted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from multiway_core.errors import OutputError
from multiway_core.files import write_text
from multiway_speech.export import export
from multiway_speech.export.text import clock
from multiway_speech.result import Segment, Transcript

SECONDS_BETWEEN_WRITES = 1.0
UNFINISHED = "the transcription was stopped before its end"


def partial_path(path: Path) -> Path:
    """``talk.srt`` -> ``talk.partial.srt``."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


class IncrementalWriter:
    """The files of one recording, a format each: ``talk.partial.srt`` while it is written, ``talk.srt`` at the end.

    Each write replaces the file as a whole, so that it can be read at any moment. All methods raise OutputError.
    """

    def __init__(self, outputs: Mapping[str, Path], source: str, model: str) -> None:
        """``outputs``: format -> path."""
        self.outputs = dict(outputs)
        self.partial = Transcript(source, model, 0.0, (), problems=(UNFINISHED,))
        self._saved = 0
        self._next_write = time.monotonic() + SECONDS_BETWEEN_WRITES

    def heard(self, seconds: float) -> None:
        """Note how many seconds of the recording have been encoded."""
        self.partial = replace(self.partial, duration=max(self.partial.duration, seconds))

    def add(self, segment: Segment) -> None:
        """One more segment; it is on the disk about a second later."""
        self.partial = replace(self.partial, segments=(*self.partial.segments, segment))
        if time.monotonic() >= self._next_write:
            self._write_partial()

    def finish(self, transcript: Transcript) -> None:
        """Give the files their names, with the whole transcript."""
        for format_, path in self.outputs.items():
            write_text(path, export(transcript, format_))
            partial_path(path).unlink(missing_ok=True)

    def abandon(self) -> str | None:
        """The run stops here: keep what there is; what to tell about it, or None if there is nothing."""
        if not self.partial.segments:
            return None
        if self._saved < len(self.partial.segments):
            try:
                self._write_partial()
            except OutputError:
                if not self._saved:  # else the files of a moment ago are still there
                    raise
        paths = ", ".join(str(partial_path(path)) for path in self.outputs.values())
        count, end = self._saved, max(s.end for s in self.partial.segments[: self._saved])
        return f"{paths}: partial, the first {count} segment{'s' * (count != 1)}, until {clock(end)}"

    def _write_partial(self) -> None:
        for format_, path in self.outputs.items():
            write_text(partial_path(path), export(self.partial, format_))
        self._saved = len(self.partial.segments)
        self._next_write = time.monotonic() + SECONDS_BETWEEN_WRITES
