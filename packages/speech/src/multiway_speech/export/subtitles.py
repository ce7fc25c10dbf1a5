"""SubRip and WebVTT."""

from __future__ import annotations

import html
from collections.abc import Sequence

from multiway_speech.export.text import label, one_line, speaker_name
from multiway_speech.result import Transcript


def srt(transcript: Transcript, names: Sequence[str] = ()) -> str:
    """SubRip, with the speaker before the words; ``names`` are of the speakers, by number."""
    cues = []
    for index, segment in enumerate(transcript.segments, start=1):
        words = (label(segment, names) + one_line(segment.text)).replace("-->", "->")
        cues.append(f"{index}\n{_time(segment.start, ',')} --> {_time(segment.end, ',')}\n{words}\n")
    return "\n".join(cues)


def vtt(transcript: Transcript, names: Sequence[str] = ()) -> str:
    """WebVTT, with the speaker as the cue's voice; ``names`` are of the speakers, by number."""
    cues = []
    for segment in transcript.segments:
        voice = ""
        if segment.speaker is not None:
            voice = f"<v {html.escape(speaker_name(segment.speaker, names), quote=False)}>"
        words = html.escape(one_line(segment.text), quote=False)
        cues.append(f"\n{_time(segment.start, '.')} --> {_time(segment.end, '.')}\n{voice}{words}\n")
    return "WEBVTT\n" + "".join(cues)


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
