"""Transcripts as files: text, subtitles, tables, and the formats of diarization and recognition scoring."""

from __future__ import annotations

from collections.abc import Callable

from multiway_core.errors import InputError

from multiway_speech.export.scoring import rttm, stm
from multiway_speech.export.subtitles import srt, vtt
from multiway_speech.export.text import tsv, txt
from multiway_speech.result import Transcript

WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": txt,
    "srt": srt,
    "vtt": vtt,
    "tsv": tsv,
    "json": Transcript.dumps,
    "rttm": rttm,
    "stm": stm,
}


def export(transcript: Transcript, format_: str) -> str:
    """The transcript as the text of a file of one of :data:`WRITERS`' formats. Raises :class:`InputError`."""
    if format_ not in WRITERS:
        raise InputError(f"unknown format {format_!r}; there are: {', '.join(WRITERS)}")
    return WRITERS[format_](transcript)
