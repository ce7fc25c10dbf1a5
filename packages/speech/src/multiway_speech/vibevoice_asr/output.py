"""Strict streaming parser of VibeVoice-ASR's output, a JSON list of segments.

    assistant
    [{"Start":0.0,"End":2.56,"Speaker":0,"Content":"Hello."},{"Start":2.56,"End":4.1,"Content":"[Music]"}]

A model can write anything, and its output can end anywhere: whole segments are kept, the rest is said to be a problem.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from multiway_speech.result import Segment

_KEYS = {
    "start": ("Start", "Start time"),
    "end": ("End", "End time"),
    "speaker": ("Speaker", "Speaker ID"),
    "text": ("Content",),
}
_KNOWN = {name for names in _KEYS.values() for name in names}
_HEADER = "assistant"
MAX_PROBLEMS = 20
MAX_SPEAKER = 999


class SegmentReader:
    """Reads text as it is generated.

    Attributes:
        problems: what was not as it should be so far, a line each.
        text: everything that was fed and not forgotten.
        segments: all whole segments of it, in the order in which they were written.
    """

    def __init__(self, duration: float) -> None:
        """``duration``: seconds of the recording; no segment reaches beyond it."""
        self.duration = duration
        self.problems: list[str] = []
        self.text = ""
        self.segments: list[Segment] = []
        self._ends = [0]  # of the list's bracket and of each item in it, whether it was taken or not
        self._taken: list[bool] = []
        self._in_list = False
        self._ended = False
        self._decoder = json.JSONDecoder(parse_constant=_refuse)

    def feed(self, text: str) -> list[Segment]:
        """The segments that are whole with this text."""
        self.text += text
        found: list[Segment] = []
        if not self._in_list and not self._begin():
            return found
        if "}" not in text and "]" not in text:
            return found
        while not self._ended:
            start = self._skip()
            if start == len(self.text):
                break
            if self.text[start] == "]":
                self._ended = True
                self._ends[-1] = start + 1
                break
            if self.text[start] != "{":
                self._note(f"segment {len(self._taken) + 1} is no object, and the rest is not read")
                self._ended = True
                break
            try:
                item, end = self._decoder.raw_decode(self.text, start)
            except (ValueError, RecursionError):
                break  # not whole yet, or never: only the end of the text can tell
            segment = self._segment(item)
            self._ends.append(end)
            self._taken.append(segment is not None)
            if segment is not None:
                found.append(segment)
        self.segments += found
        return found

    def rewind(self, place: int) -> None:
        """Forget what is not whole, and all segments that end behind ``place`` in ``text``."""
        while self._taken and self._ends[-1] > place:
            self._ends.pop()
            if self._taken.pop():
                self.segments.pop()
        self._ended = False
        self.text = self.text[: self._ends[-1]]

    def finish(self) -> None:
        """The output has ended: note what is missing or left over."""
        if not self._in_list:
            shown = " ".join(self.text.split())[:60]
            self._note(
                f"the model wrote no list of segments, but {shown!r}" if shown else "the model wrote nothing"
            )
        elif not self._ended:
            lost = " and a part of one" if self.text[self._skip() :] else ""
            self._note(f"the list of segments is cut off after {len(self._taken)}{lost}")
        elif self.text[self._skip() :]:
            self._note("there is more behind the list of segments")

    def _begin(self) -> bool:
        """Find the list's bracket, behind nothing but space and the turn's header."""
        body = self.text.lstrip()
        if body.startswith(_HEADER):
            body = body[len(_HEADER) :].lstrip()
        if body.startswith("["):
            self._in_list = True
            self._ends[-1] = len(self.text) - len(body) + 1
        return self._in_list

    def _skip(self) -> int:
        """The place of the next thing that is neither space nor comma."""
        place = self._ends[-1]
        while place < len(self.text) and self.text[place] in " \t\r\n,":
            place += 1
        return place

    def _segment(self, item: Any) -> Segment | None:
        number = len(self._taken) + 1
        values = {
            ours: next((item[name] for name in names if name in item), None) for ours, names in _KEYS.items()
        }
        unknown = sorted(set(item) - _KNOWN)
        if unknown:
            self._note(f"segment {number}: unknown key {unknown[0]!r}")
        text, start, end = values["text"], _seconds(values["start"]), _seconds(values["end"])
        if not isinstance(text, str):
            self._note(f"segment {number} is left out: it has no text")
            return None
        if start is None or end is None:
            self._note(f"segment {number} is left out: it has no start and end in seconds")
            return None
        if start > self.duration or end < start:
            place = f"from {start:g} s to {end:g} s of {self.duration:g} s"
            self._note(f"segment {number} is left out: it lies {place}")
            return None
        if end > self.duration + 0.5:
            self._note(f"segment {number}: ends at {end:g} s of {self.duration:g} s")
        speaker = values["speaker"]
        if isinstance(speaker, str) and speaker.isascii() and speaker.isdigit() and len(speaker) <= 3:
            speaker = int(speaker)
        if speaker is not None and (type(speaker) is not int or not 0 <= speaker <= MAX_SPEAKER):
            self._note(f"segment {number}: its speaker is not a number from 0 to {MAX_SPEAKER}")
            speaker = None
        return Segment(start, min(end, self.duration), speaker, " ".join(text.split()))

    def _note(self, problem: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def parse_output(text: str, duration: float) -> tuple[list[Segment], list[str]]:
    """Segments, in order of their starts, and problems of a whole output."""
    reader = SegmentReader(duration)
    segments = reader.feed(text)
    reader.finish()
    return sorted(segments, key=lambda segment: (segment.start, segment.end)), reader.problems


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
