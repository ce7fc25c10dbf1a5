"""RTTM (diarization) and STM (recognition), as `meeteval`, `pyannote.metrics` and NIST's tools read them."""

from __future__ import annotations

import re
from pathlib import Path

from multiway_speech.export.text import one_line
from multiway_speech.result import Transcript


def rttm(transcript: Transcript) -> str:
    """A line a stretch of speech; what nobody says is left out."""
    name = _session(transcript.source)
    return "".join(
        f"SPEAKER {name} 1 {s.start:.3f} {s.end - s.start:.3f} <NA> <NA> speaker{s.speaker} <NA> <NA>\n"
        for s in transcript.segments
        if s.speaker is not None
    )


def stm(transcript: Transcript) -> str:
    """A line a segment of speech: session, channel, speaker, start, end, words."""
    name = _session(transcript.source)
    return "".join(
        f"{name} 1 speaker{s.speaker} {s.start:.3f} {s.end:.3f} {one_line(s.text)}\n"
        for s in transcript.segments
        if s.speaker is not None
    )


def _session(source: str) -> str:
    """The recording's name as one word, without its ending."""
    return re.sub(r"\s+", "_", Path(source).stem.strip()) or "recording"
