"""SubRip and WebVTT."""

from __future__ import annotations

import html

from multiway_speech.export.text import label, one_line
from multiway_speech.result import Transcript


def srt(transcript: Transcript) -> str:
    """SubRip, with the speaker's name before the words."""
    cues = (
        f"{index}\n{_time(s.start, ',')} --> {_time(s.end, ',')}\n{label(s)}{one_line(s.text).replace('-->', '->')}\n"
        for index, s in enumerate(transcript.segments, start=1)
    )
    return "\n".join(cues)


def vtt(transcript: Transcript) -> str:
    """WebVTT, with the speaker as the cue's voice."""
    cues = []
    for segment in transcript.segments:
        voice = "" if segment.speaker is None else f"<v Speaker {segment.speaker}>"
        words = html.escape(one_line(segment.text), quote=False)
        cues.append(f"\n{_time(segment.start, '.')} --> {_time(segment.end, '.')}\n{voice}{words}\n")
    return "WEBVTT\n" + "".join(cues)


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
