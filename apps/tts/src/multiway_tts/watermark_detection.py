"""The ``watermark detect`` command.

Shape suffix: T samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from multiway_speech.audio import SoundFile
from multiway_speech.watermark import THRESHOLD, detect

RATE = 16_000
WINDOW_SECONDS = 60.0
"""A longer recording is judged minute by minute: only a part of it may be generated."""
MIN_SECONDS = 6.0
"""In less, a mark may be missed."""


@dataclass(frozen=True)
class Detection:
    """A stretch of a recording: start and end in seconds, and how clearly it bears the mark."""

    start: float
    end: float
    score: float

    @property
    def marked(self) -> bool:
        """Whether there is a mark."""
        return self.score >= THRESHOLD


def detect_watermark(path: Path, key: str) -> list[Detection]:
    """All stretches of a sound or video file, in constant memory. Raises InputError: not readable."""
    found: list[Detection] = []
    start = 0.0
    for samples in SoundFile(path).pieces(RATE, WINDOW_SECONDS):
        seconds = len(samples) / RATE
        found.append(Detection(start, start + seconds, detect(samples, RATE, key)))
        start += seconds
    return found


def as_json(path: Path, found: list[Detection]) -> dict[str, Any]:
    """The result of a file."""
    return {
        "file": path.name,
        "marked": any(part.marked for part in found),
        "score": round(float(np.max([part.score for part in found])), 2),
        "threshold": THRESHOLD,
        "parts": [
            {"start": round(part.start, 2), "end": round(part.end, 2), "score": round(part.score, 2)}
            for part in found
        ],
    }


def as_line(path: Path, found: list[Detection]) -> str:
    """The same for people."""
    best = max(part.score for part in found)
    marked = [part for part in found if part.marked]
    if not marked:
        short = " (in less than 6 s a mark may be missed)" if found[-1].end < MIN_SECONDS else ""
        return f"{path}: no mark of this key; score {best:.1f}, a mark has {THRESHOLD:g} or more{short}"
    where = ""
    if len(marked) < len(found):
        where = " in " + ", ".join(f"{part.start:.0f}-{part.end:.0f} s" for part in marked)
    return f"{path}: marked{where}; score {best:.1f}, a mark has {THRESHOLD:g} or more"
