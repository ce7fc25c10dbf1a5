"""Plain text, and a table."""

from __future__ import annotations

from collections.abc import Sequence

from multiway_speech.result import Segment, Transcript


def txt(transcript: Transcript) -> str:
    """A line a segment: ``[0:01:02.50] Speaker 0: words``."""
    return "".join(map(line, transcript.segments))


def line(segment: Segment) -> str:
    """The line of one segment, with its end."""
    return f"[{clock(segment.start)}] {label(segment)}{one_line(segment.text)}\n"


def tsv(transcript: Transcript) -> str:
    """Columns start and end (milliseconds), speaker, text; tabs and line breaks in the text become spaces."""
    rows = ["start\tend\tspeaker\ttext"]
    for s in transcript.segments:
        speaker = "" if s.speaker is None else s.speaker
        rows.append(f"{round(s.start * 1000)}\t{round(s.end * 1000)}\t{speaker}\t{one_line(s.text)}")
    return "\n".join(rows) + "\n"


def clock(seconds: float) -> str:
    """``h:mm:ss.cc``."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest // 100:02}.{rest % 100:02}"


def label(segment: Segment, names: Sequence[str] = ()) -> str:
    """``Speaker 0: `` (see :func:`speaker_name`), or nothing where nobody speaks."""
    return "" if segment.speaker is None else f"{speaker_name(segment.speaker, names)}: "


def speaker_name(speaker: int, names: Sequence[str] = ()) -> str:
    """``Speaker 0``, or the name of this number in ``names``."""
    return one_line(names[speaker]) if speaker < len(names) else f"Speaker {speaker}"


def one_line(text: str) -> str:
    """White space of any kind as single spaces."""
    return " ".join(text.split())
