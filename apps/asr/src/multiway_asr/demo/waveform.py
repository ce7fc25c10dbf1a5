"""What the page needs of a recording: a waveform outline to draw, and an MP3 to play."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from multiway_core.errors import InputError
from multiway_speech.audio import SoundFile

RATE, BIT_RATE = 16_000, 32_000
FINE = RATE // 100
COLUMNS = 1200
"""Points of the outline, as many as a screen shows; at first one each 10 ms."""


@dataclass(frozen=True)
class Waveform:
    """A recording on the page.

    Attributes:
        name: of the file.
        duration: seconds.
        peaks: loudest magnitude of each of some equal parts, 0 to 1.
        audio: data URI; no file of the server is ever named.
    """

    name: str
    duration: float
    peaks: tuple[float, ...]
    audio: str


def read_waveform(path: Path, longest: float) -> Waveform:
    """Decode a recording once. Raises InputError: not readable, or longer than ``longest`` seconds."""
    buffer = io.BytesIO()
    peaks: list[np.ndarray] = []
    samples = 0
    with av.open(buffer, "w", format="mp3") as container:
        stream: Any = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        for piece in SoundFile(path).pieces(RATE):
            if samples + len(piece) > longest * RATE:
                raise InputError(
                    f"{path}: longer than {longest / 60:g} minutes; the command multiway-asr takes more"
                )
            peaks.append(_peaks(np.abs(piece), FINE))
            frame = av.AudioFrame.from_ndarray(np.clip(piece, -1, 1)[None], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, samples, Fraction(1, RATE)
            samples += len(piece)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    fine = np.concatenate(peaks)
    outline = _peaks(fine, -(-len(fine) // COLUMNS)).clip(0, 1).round(3)
    uri = "data:audio/mpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Waveform(path.name, samples / RATE, tuple(outline.tolist()), uri)


def _peaks(values: np.ndarray, size: int) -> np.ndarray:
    """The largest of each ``size`` values; the last part may be shorter."""
    return np.maximum.reduceat(values, np.arange(0, len(values), size))
