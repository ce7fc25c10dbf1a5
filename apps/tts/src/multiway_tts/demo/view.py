"""The values of the editor and of the player, and their files (multiway_tts/viewer)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from multiway_tts.manifest import Manifest

NOTE = "Press Speak: the audio appears here during synthesis."


def editor_value(text: str, voices: Sequence[str]) -> dict[str, Any]:
    """A script in the editor; ``voices`` are the names that may begin a turn."""
    return {"text": text, "voices": list(voices)}


def empty_value(note: str = NOTE) -> dict[str, Any]:
    """A player without sound."""
    return {"state": "empty", "note": note, "chunks": [], "turns": [], "speakers": [], "summary": ""}


def speaking_value(run: str, rate: int, chunks: Sequence[tuple[int, str]], summary: str) -> dict[str, Any]:
    """During synthesis. ``chunks``: the last pieces with their numbers, so that none is lost in transit."""
    return {
        **empty_value("Reading the script ..."),
        "state": "speaking",
        "run": run,
        "rate": rate,
        "chunks": [list(chunk) for chunk in chunks],
        "summary": summary,
    }


def done_value(run: str, samples: np.ndarray, manifest: Manifest, summary: str) -> dict[str, Any]:
    """The finished synthesis, or the part until it was stopped."""
    fields = manifest.to_json()
    return {
        "state": "done" if manifest.complete else "partial",
        "run": run,
        "rate": manifest.sample_rate,
        "chunks": [],
        "pcm": coded(samples),
        "turns": [
            {**turn, "speaker": index}
            for turn, index in zip(fields["turns"], _indices(manifest), strict=True)
        ],
        "speakers": [part.speaker for part in manifest.speakers],
        "summary": summary,
        "note": "Nothing was spoken.",
    }


def coded(samples: np.ndarray) -> str:
    """Float samples (T,) as 16-bit PCM in base64."""
    from multiway_tts.speech_files import pcm

    return base64.b64encode(pcm(samples)).decode("ascii")


def _indices(manifest: Manifest) -> list[int]:
    return [turn.speaker for turn in manifest.turns]
