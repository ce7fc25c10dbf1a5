"""The manifest of a synthesis (JSON of schema ``multiway.tts/1``), and its subtitles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.files import write_text

from multiway_tts.model import KOKORO
from multiway_tts.synthesis import SpokenTurn, Synthesis
from multiway_tts.voice_assignment import SpeakerVoice

if TYPE_CHECKING:
    from multiway_speech.audio_writer import Provenance
    from multiway_speech.result import Transcript

SCHEMA = "multiway.tts/1"
MAX_HASHED = 2 << 30
"""Bytes of weights; larger models are not hashed."""


@dataclass(frozen=True)
class Manifest:
    """See the README for the JSON."""

    audio: str | None
    model: str
    model_sha256: str | None
    created: str
    sample_rate: int
    duration: float
    complete: bool
    problems: tuple[str, ...]
    settings: dict[str, Any]
    watermarked: bool
    disclaimer: str
    speakers: tuple[SpeakerVoice, ...]
    turns: tuple[SpokenTurn, ...]

    def to_json(self) -> dict[str, Any]:
        """The schema's object."""
        names = [part.speaker for part in self.speakers]
        turns = [
            {
                "start": round(turn.start, 3),
                "end": round(turn.end, 3),
                "speaker": names[turn.speaker],
                "text": turn.text,
                "line": turn.line or None,
                "estimated": turn.estimated,
                "disclaimer": turn.disclaimer,
            }
            for turn in self.turns
        ]
        fields = asdict(self) | {"turns": turns, "duration": round(self.duration, 3)}
        from multiway_speech.audio_writer import STATEMENT

        return {"schema": SCHEMA, "statement": STATEMENT, **fields}

    def dumps(self) -> str:
        """Indented JSON text."""
        return json.dumps(self.to_json(), ensure_ascii=False, indent=2) + "\n"

    def transcript(self) -> Transcript:
        """The turns for the writers of subtitles; speakers are numbers into :attr:`speakers`."""
        from multiway_speech.result import Segment, Transcript

        segments = tuple(Segment(turn.start, turn.end, turn.speaker, turn.text) for turn in self.turns)
        return Transcript(self.audio or "speech", self.model, self.duration, segments)

    def subtitles(self, kind: str) -> str:
        """``srt`` or ``vtt``, with the script's names; without any where there is one speaker only."""
        from multiway_speech.export import subtitles

        transcript = self.transcript()
        if len(self.speakers) == 1:
            alone = tuple(replace(segment, speaker=None) for segment in transcript.segments)
            transcript = replace(transcript, segments=alone)
        writer = {"srt": subtitles.srt, "vtt": subtitles.vtt}[kind]
        return writer(transcript, [part.speaker for part in self.speakers])


def manifest_of(
    synthesis: Synthesis,
    provenance: Provenance,
    *,
    audio: str | None,
    disclaimer: str,
    interrupted: str | None = None,
    model_sha256: str | None = None,
) -> Manifest:
    """Of what was spoken so far; ``interrupted`` says why no more was."""
    problems = synthesis.problems()
    if interrupted is not None:
        problems.append(interrupted)
    options = synthesis.options
    return Manifest(
        audio=audio,
        model=synthesis.model,
        model_sha256=model_sha256,
        created=provenance.created,
        sample_rate=synthesis.rate,
        duration=synthesis.seconds,
        complete=not problems and synthesis.speech is not None,
        problems=tuple(problems),
        settings={
            "seed": options.seed,
            "guidance": options.guidance,
            "diffusion_steps": options.diffusion_steps,
            "speed": options.speed,
            "pause": options.pause,
        },
        watermarked=synthesis.key is not None,
        disclaimer=disclaimer,
        speakers=synthesis.cast.parts,
        turns=tuple(synthesis.turns()),
    )


def write_beside(path: Path, manifest: Manifest, kinds: Sequence[str]) -> None:
    """Write ``path`` with the endings ``.json``, ``.srt``, ``.vtt``. Raises OutputError."""
    for kind in kinds:
        text = manifest.dumps() if kind == "json" else manifest.subtitles(kind)
        write_text(path.with_suffix(f".{kind}"), text)


def model_hash(name: str) -> str | None:
    """SHA-256 over the configuration and weights of a model; None for one that is large or not a folder."""
    from multiway_core import hub

    if name == KOKORO:
        return None
    folder = Path(hub.resolve(name))
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors"))
    if not files or sum(path.stat().st_size for path in files) > MAX_HASHED:
        return None
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
