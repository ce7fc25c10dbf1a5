"""VibeVoice-Realtime for scripts: it has one voice at a time, so turns are synthesized one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.errors import InputError
from multiway_speech.script import Script, Turn, parse_script
from multiway_speech.tempo import Tempo
from multiway_speech.vibevoice.pipeline import MAX_SPEAKERS, Section, Speech, SpeechOptions, SpeechPiece
from multiway_speech.vibevoice_realtime.pipeline import RealtimeOptions, RealtimePipeline, RealtimeSpeech


class RealtimeSynthesizer:
    """A :class:`~multiway_tts.model.Synthesizer` around a :class:`RealtimePipeline`."""

    takes_recordings = False

    defaults = SpeechOptions(
        guidance=RealtimeOptions.guidance, diffusion_steps=RealtimeOptions.diffusion_steps
    )

    def __init__(self, pipeline: RealtimePipeline) -> None:
        self.pipeline = pipeline
        self.name = pipeline.name

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.pipeline.sample_rate

    def voices(self) -> tuple[str, ...]:
        """Names of the voices in the model's folder."""
        return self.pipeline.voices()

    def voice(self, name: str, sound: Any = None) -> Any:
        """A voice of the folder. Raises InputError for a recording: the makers keep the way to voices to themselves."""
        if sound is not None:
            raise InputError(f"{self.name} takes no recordings as voices, only voice files of its makers")
        return self.pipeline.voice(name)

    def voice_file(self, path: Path) -> Any:
        """A voice file of the makers. Raises CheckpointError, InputError."""
        return self.pipeline.voice(path)

    def check(self, script: Script) -> list[str]:
        """Nothing: it reads letters, not phones."""
        return []

    def stream(
        self,
        script: Script | str,
        voices: Mapping[str, Any] | None = None,
        options: SpeechOptions | None = None,
    ) -> Iterator[SpeechPiece | Speech]:
        """As :meth:`TtsPipeline.stream`; each turn is a section. Raises InputError: a speaker without a voice."""
        voices, options = voices or {}, options or self.defaults
        if isinstance(script, str):
            script = parse_script(script, voices=tuple(voices), max_speakers=MAX_SPEAKERS)
        missing = [name for name in script.speakers if name not in voices]
        if missing:
            raise InputError(
                f"{missing[0]} has no voice; there are voices for: {', '.join(voices) or 'nobody'}"
            )
        return self._stream(script, voices, options)

    def _stream(
        self, script: Script, voices: Mapping[str, Any], options: SpeechOptions
    ) -> Iterator[SpeechPiece | Speech]:
        pieces: list[np.ndarray] = []
        sections: list[Section] = []
        for index, turn in enumerate(script.turns):
            pause_ms = turn.pause_ms or (round(1000 * (options.pause or 0)) if index else 0)
            if pause_ms:
                pieces.append(self._silence(pause_ms))
                yield SpeechPiece(pieces[-1])
            start = self._seconds(pieces)
            problem: str | None = None
            tempo = Tempo(self.sample_rate, options.speed)
            for piece in self._speak(turn, voices[script.speakers[turn.speaker]], options, index):
                if isinstance(piece, RealtimeSpeech):
                    problem = piece.problem
                    pieces.append(tempo.finish())
                else:
                    pieces.append(tempo.feed(piece.samples))
                yield SpeechPiece(pieces[-1])
            sections.append(Section(start, self._seconds(pieces), (turn,), problem is None))
        if script.final_pause_ms:
            pieces.append(self._silence(script.final_pause_ms))
            yield SpeechPiece(pieces[-1])
        samples = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)
        yield Speech(samples, self.sample_rate, script, tuple(sections))

    def _speak(
        self, turn: Turn, voice: Any, options: SpeechOptions, index: int
    ) -> Iterator[SpeechPiece | RealtimeSpeech]:
        chosen = RealtimeOptions(
            options.guidance, options.diffusion_steps, options.stochastic, options.seed + index
        )
        return self.pipeline.stream(turn.text, voice, chosen)

    def _silence(self, milliseconds: int) -> np.ndarray:
        return np.zeros(milliseconds * self.sample_rate // 1000, dtype=np.float32)

    def _seconds(self, pieces: list[np.ndarray]) -> float:
        return sum(map(len, pieces)) / self.sample_rate
