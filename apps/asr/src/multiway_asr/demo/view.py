"""The values of the viewer component, and its files (multiway_asr/viewer)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from multiway_speech.result import Segment, Transcript

from multiway_asr.demo.waveform import Waveform


def view_value(
    sound: Waveform | None = None,
    segments: Iterable[Segment] = (),
    *,
    working: bool = False,
    summary: str = "",
    note: str = "",
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """The value of the viewer component (viewer/viewer.js draws it)."""
    return {
        "audio": sound.audio if sound else None,
        "duration": sound.duration if sound else 0.0,
        "peaks": list(sound.peaks) if sound else [],
        "segments": [
            {"start": round(s.start, 2), "end": round(s.end, 2), "speaker": s.speaker, "text": s.text}
            for s in segments
        ],
        "working": working,
        "summary": summary,
        "note": note,
        "problems": list(problems),
    }


def summary_of(transcript: Transcript, seconds: float) -> str:
    """One line of facts."""
    segments, speakers = len(transcript.segments), len(transcript.speakers)
    return " · ".join(
        [
            f"{segments} segment{'s' * (segments != 1)}",
            f"{speakers} speaker{'s' * (speakers != 1)}",
            f"{transcript.duration:.1f} s in {seconds:.1f} s",
            transcript.model,
        ]
    )
