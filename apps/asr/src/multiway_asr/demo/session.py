"""Recordings of visitors, transcribed by one model for all, as values of the viewer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from multiway_core.errors import InputError
from multiway_speech.result import Segment, Transcript

from multiway_asr.context import checked_context
from multiway_asr.demo.sound import Shown, shown
from multiway_asr.demo.view import summary_of, view_value
from multiway_asr.listener import Hearing, Listener

_SECONDS_BETWEEN_UPDATES = 0.2
MOST_SECONDS = 3600.0
WINDOW = 20.0
ROOM = 0.6
"""Of what a model hears at once, the share that leaves it room to write; longer recordings are heard in parts."""


class DemoSession:
    """Transcribes with one listener, and makes the values of the viewer."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._longest = listener.longest()

    def open(self, path: Path) -> dict[str, Any]:
        """The viewer's value for a recording that has not been transcribed. Raises InputError."""
        return view_value(self._shown(path), note="Not transcribed yet: press Transcribe.")

    def transcript(self, path: Path, context: str, max_speakers: float | None) -> Transcript:
        """Without streaming, for programs. Raises InputError."""
        with _without_folder(path):
            hearing = self._hearing(self._shown(path).duration, context, max_speakers)
            return self._listener.transcript(path, hearing)

    def transcribe(
        self, path: Path, context: str, max_speakers: float | None
    ) -> Iterator[tuple[dict[str, Any], Transcript | None]]:
        """Viewer values while segments arrive; the last one comes with the transcript. Raises InputError."""
        sound = self._shown(path)
        hearing = self._hearing(sound.duration, context, max_speakers)
        segments: list[Segment] = []
        started = updated = time.monotonic()
        yield view_value(sound, working=True, summary="Listening ..."), None
        with _without_folder(path):
            for event in self._listener.stream(path, hearing):
                if isinstance(event, Segment):
                    segments.append(event)
                    if time.monotonic() - updated >= _SECONDS_BETWEEN_UPDATES:
                        updated = time.monotonic()
                        yield (
                            view_value(
                                sound, segments, working=True, summary=f"{len(segments)} segments ..."
                            ),
                            None,
                        )
                else:
                    transcript = replace(event, source=path.name)
                    value = view_value(
                        sound,
                        transcript.segments,
                        summary=summary_of(transcript, time.monotonic() - started),
                        note="Nobody was heard to speak.",
                        problems=transcript.problems,
                    )
                    yield value, transcript

    def _shown(self, path: Path) -> Shown:
        with _without_folder(path):
            return shown(path, MOST_SECONDS)

    def _hearing(self, seconds: float, context: str, max_speakers: float | None) -> Hearing:
        text = checked_context(context) if context and context.strip() else ""
        once = ROOM * self._longest
        window = min(WINDOW, once) if seconds > once else None
        return Hearing(text, int(max_speakers) if max_speakers else None, window)


@contextmanager
def _without_folder(path: Path) -> Iterator[None]:
    """Errors about an upload name the file as its owner knows it, not where this machine keeps it."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(path), path.name)) from error
