"""What the page gets of a recording: its outline to draw, and a small MP3 to play."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from multiway_core.errors import InputError
from multiway_speech.audio import SoundFile

RATE, BIT_RATE = 16_000, 32_000
COLUMNS = 1200
"""Points of the outline; more than a screen shows."""


@dataclass(frozen=True)
class Shown:
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


def shown(path: Path, longest: float) -> Shown:
    """Decode a recording once. Raises InputError: not readable, or longer than ``longest`` seconds."""
    sound = SoundFile(path)
    told = sound.told_seconds()
    buffer = io.BytesIO()
    peaks: list[np.ndarray] = []
    samples = 0
    hop = max(1, int(min(told or longest, longest) * RATE / COLUMNS))
    rest = np.zeros(0, dtype=np.float32)
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        for piece in sound.pieces(RATE):
            samples += len(piece)
            if samples > longest * RATE:
                raise InputError(f"{path}: longer than the {longest / 60:.1f} minutes that this model hears in one pass")
            joined = np.concatenate([rest, np.abs(piece)])
            whole = len(joined) - len(joined) % hop
            peaks.append(joined[:whole].reshape(-1, hop).max(axis=1))
            rest = joined[whole:]
            frame = av.AudioFrame.from_ndarray(np.clip(piece, -1, 1)[None], "fltp", "mono")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if len(rest):
        peaks.append(rest.max(keepdims=True))
    outline = tuple(np.concatenate(peaks).clip(0, 1).round(3).tolist())
    uri = "data:audio/mpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Shown(path.name, samples / RATE, outline, uri)
