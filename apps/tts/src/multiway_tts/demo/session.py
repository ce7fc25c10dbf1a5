"""Synthesis for the demo's visitors, as streams of the page's values."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from multiway_core.errors import InputError

from multiway_tts.demo.view import coded, done_value, speaking_value
from multiway_tts.disclaimer import Disclaimer, with_disclaimer
from multiway_tts.manifest import Manifest, manifest_of, model_hash, write_beside
from multiway_tts.model import DEFAULT_KEY, speech_options
from multiway_tts.speech_files import read
from multiway_tts.synthesis import Synthesis
from multiway_tts.voice_assignment import assign_voices

if TYPE_CHECKING:
    from multiway_speech.audio_writer import Provenance

    from multiway_tts.model import Synthesizer

LONGEST = 4000
"""Characters of a visitor's script."""
OWN = "\N{BULLET} my recording"
MODELS_CHOICE = "the model's choice"
FILES = ("wav", "srt", "vtt", "json")
_PIECE_SECONDS = 0.24
_KEPT_PIECES = 12


@dataclass(frozen=True)
class Choice:
    """The page's settings.

    Attributes:
        voices: of ``Speaker 1`` and so on: a name, :data:`OWN`, or :data:`MODELS_CHOICE`.
        own: path of the visitor's recording, or None.
        consent: that its speaker agreed.
    """

    voices: tuple[str, ...]
    own: str | None = None
    consent: bool = False
    disclaimer: Disclaimer = "prefix"
    seed: int = 0
    guidance: float | None = None
    steps: int | None = None
    speed: float = 1.0


class Session:
    """One model for all visitors; the page's queue lets one speak at a time."""

    def __init__(self, synthesizer: Synthesizer) -> None:
        self.synthesizer = synthesizer
        self.voices = synthesizer.voices()
        self.defaults = speech_options(synthesizer, seed=0)
        self._hash: str | None = None
        self._stops: dict[str, Event] = {}

    def choices(self) -> list[str]:
        """The entries of a speaker's menu."""
        own = [OWN] if self.synthesizer.takes_recordings else []
        return [*(self.voices or (MODELS_CHOICE,)), *own]

    def stop(self, visitor: str) -> None:
        """Stop this visitor's synthesis; the audio so far is kept."""
        if visitor in self._stops:
            self._stops[visitor].set()

    def prepare(self, text: str, choice: Choice) -> Synthesis:
        """Raises InputError: a bad script or choice."""
        if not text.strip():
            raise InputError("write a script first")
        if len(text) > LONGEST:
            raise InputError(
                f"the script has {len(text)} characters; the demo takes {LONGEST}, the command speaks longer ones"
            )
        script = read(text, self.synthesizer, {})
        given = {name: self._voice(choice, name) for name in script.speakers if name.startswith("Speaker ")}
        chosen = {name: voice for name, voice in given.items() if voice is not None}
        remarks = self.synthesizer.check(script)
        found = assign_voices(self.synthesizer, script.speakers, chosen, consent=choice.consent)
        found = replace(found, remarks=(*found.remarks, *remarks))
        options = speech_options(
            self.synthesizer,
            seed=choice.seed,
            guidance=choice.guidance,
            steps=choice.steps,
            speed=choice.speed,
        )
        return Synthesis(
            self.synthesizer, with_disclaimer(script, choice.disclaimer), found, options, key=DEFAULT_KEY
        )

    def _voice(self, choice: Choice, name: str) -> str | None:
        number = int(name.removeprefix("Speaker "))
        wanted = choice.voices[number - 1] if 1 <= number <= len(choice.voices) else MODELS_CHOICE
        if wanted == MODELS_CHOICE:
            return None
        if wanted != OWN:
            return wanted
        if not choice.own:
            raise InputError(f"{name} shall have your recording's voice: upload or record one first")
        if not choice.consent:
            raise InputError("tick the box: the person in the recording must have agreed to this")
        return choice.own

    def speak(
        self, text: str, choice: Choice, visitor: str = ""
    ) -> Iterator[tuple[dict[str, Any], Manifest | None, np.ndarray]]:
        """The player's values during synthesis; the last one comes with manifest and audio (float32 (T,))."""
        from multiway_speech.audio_writer import Provenance

        synthesis = self.prepare(text, choice)
        stop = self._stops[visitor] = Event()
        run, rate = secrets.token_hex(4), synthesis.rate
        provenance = Provenance.now(self.synthesizer.name, watermarked=True)
        yield speaking_value(run, rate, [], "reading the script ..."), None, np.zeros(0, np.float32)
        pieces: list[np.ndarray] = []
        chunks: list[tuple[int, str]] = []
        waiting: list[np.ndarray] = []
        first: float | None = None
        for piece in synthesis:
            if first is None:
                first = synthesis.elapsed
            pieces.append(piece)
            waiting.append(piece)
            if sum(map(len, waiting)) >= _PIECE_SECONDS * rate:
                chunks = [*chunks, (chunks[-1][0] + 1 if chunks else 0, coded(np.concatenate(waiting)))]
                chunks, waiting = chunks[-_KEPT_PIECES:], []
                yield speaking_value(run, rate, chunks, _speaking(synthesis)), None, np.zeros(0, np.float32)
            if stop.is_set():
                break
        samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        stopped = f"stopped after {synthesis.seconds:.1f} s" if synthesis.speech is None else None
        manifest = self._manifest(synthesis, provenance, choice, stopped)
        self._stops.pop(visitor, None)
        yield done_value(run, samples, manifest, _summary(synthesis, manifest, first)), manifest, samples

    def _manifest(
        self, synthesis: Synthesis, provenance: Provenance, choice: Choice, stopped: str | None
    ) -> Manifest:
        self._hash = self._hash or model_hash(self.synthesizer.name)
        return manifest_of(
            synthesis,
            provenance,
            audio="speech.wav" if stopped is None else "speech.partial.wav",
            disclaimer=choice.disclaimer,
            interrupted=stopped,
            model_sha256=self._hash,
        )


def write_files(folder: Path, manifest: Manifest, samples: np.ndarray) -> list[str]:
    """Write a file of each of :data:`FILES`; their paths in that order."""
    from multiway_speech.audio_writer import Provenance, write_audio

    assert manifest.audio is not None
    path = folder / manifest.audio
    write_audio([samples], path, manifest.sample_rate, Provenance(manifest.model, manifest.created, True))
    write_beside(path, manifest, FILES[1:])
    return [str(path.with_suffix(f".{kind}")) for kind in FILES]


def _speaking(synthesis: Synthesis) -> str:
    return f"speaking ... {synthesis.seconds:.1f} s, {synthesis.pace:.2f} s a second"


def _summary(synthesis: Synthesis, manifest: Manifest, first: float | None) -> str:
    parts = [f"{manifest.duration:.1f} s in {synthesis.elapsed:.1f} s"]
    if first is not None:
        parts.append(f"first sound after {first:.1f} s")
    parts += synthesis.cast.remarks
    if not manifest.complete:
        parts.append("partial: " + "; ".join(manifest.problems))
    return " · ".join(parts)


def seed_of(value: float | None) -> int:
    """A number field's seed. Raises InputError when it is empty."""
    if value is None:
        raise InputError("the seed needs a number")
    return int(value)


def voices_of(values: Sequence[str | None]) -> tuple[str, ...]:
    """The menus' values."""
    return tuple(value or MODELS_CHOICE for value in values)
