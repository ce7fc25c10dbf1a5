"""Transcription for the demo's visitors: one model for all, results as values of the viewer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from multiway_core.app import named_as_uploaded
from multiway_speech.result import Segment, Transcript

from multiway_asr.context import checked_context
from multiway_asr.demo.view import summary_of, view_value
from multiway_asr.demo.waveform import Waveform, read_waveform
from multiway_asr.transcriber import TranscribeOptions, Transcriber

_SECONDS_BETWEEN_UPDATES = 0.2
MAX_SECONDS = 3600.0


class DemoSession:
    """Transcribes with one transcriber, and makes the values of the viewer."""

    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber

    def open(self, path: Path) -> dict[str, Any]:
        """The viewer's value for a recording that has not been transcribed. Raises InputError."""
        return view_value(self._waveform(path), note="Not transcribed yet: press Transcribe.")

    def transcript(self, path: Path, context: str, max_speakers: float | None) -> Transcript:
        """Without streaming, for programs. Raises InputError."""
        with named_as_uploaded(path):
            options = self._options(context, max_speakers)
            return self._transcriber.transcript(path, options)

    def transcribe(
        self, path: Path, context: str, max_speakers: float | None
    ) -> Iterator[tuple[dict[str, Any], Transcript | None]]:
        """Viewer values while segments arrive; the last one comes with the transcript. Raises InputError."""
        sound = self._waveform(path)
        options = self._options(context, max_speakers)
        segments: list[Segment] = []
        started = updated = time.monotonic()
        yield view_value(sound, working=True, summary="Encoding ..."), None
        with named_as_uploaded(path):
            for event in self._transcriber.stream(path, options):
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
                        note="No speech was recognized.",
                        problems=transcript.problems,
                    )
                    yield value, transcript

    def _waveform(self, path: Path) -> Waveform:
        with named_as_uploaded(path):
            return read_waveform(path, MAX_SECONDS)

    @staticmethod
    def _options(context: str, max_speakers: float | None) -> TranscribeOptions:
        text = checked_context(context) if context and context.strip() else ""
        return TranscribeOptions(text, int(max_speakers) if max_speakers else None)
