"""Text, complete or streamed, -> speech: the one path of VibeVoice-Realtime's users."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer

from multiway_speech.vibevoice.generation import SpeechGenerationConfig
from multiway_speech.vibevoice.pipeline import SpeechPiece
from multiway_speech.vibevoice_realtime import checkpoint
from multiway_speech.vibevoice_realtime.generation import RealtimeGenerator
from multiway_speech.vibevoice_realtime.model import VibeVoiceRealtime
from multiway_speech.vibevoice_realtime.voices import RealtimeVoice

TOKENIZER = "Qwen/Qwen2.5-0.5B"
"""Where the published model, which comes without tokenizer files, has its vocabulary from."""
VOICE_FOLDER = "voices"


@dataclass(frozen=True)
class RealtimeOptions:
    """Options of synthesis, of :class:`~..vibevoice.generation.SpeechGenerationConfig`; defaults are the authors'."""

    guidance: float = 1.5
    diffusion_steps: int = 5
    stochastic: bool = False
    seed: int = 0


@dataclass(frozen=True)
class RealtimeSpeech:
    """All of it: float32 (T,).

    ``problem`` says in a line why the speech is not complete; None if the model came to its own end.
    """

    samples: np.ndarray
    sample_rate: int
    problem: str | None


class RealtimePipeline:
    """Speaks texts with one model, one at a time."""

    def __init__(
        self, name: str, model: VibeVoiceRealtime, tokenizer: TextTokenizer, folder: Path | None = None
    ):
        """``folder``: where :meth:`voice` looks names up."""
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.folder = folder

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> RealtimePipeline:
        """Load a local folder, or a hub id such as ``microsoft/VibeVoice-Realtime-0.5B``.

        ``dtype`` is float32 by default on a CPU and bfloat16 elsewhere. Raises :class:`ModelNotFoundError`,
        :class:`CheckpointError` or :class:`ConfigError`.
        """
        folder = Path(hub.resolve(name, revision=revision))
        if dtype is None:
            dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
        model = checkpoint.load(folder, dtype=dtype, device=device)
        return cls(name, model, TextTokenizer.from_folder(folder, fallback=TOKENIZER), folder)

    @property
    def sample_rate(self) -> int:
        """Samples a second of all sound here."""
        return self.model.config.acoustic.sample_rate

    def voices(self) -> tuple[str, ...]:
        """Names of the voices in the model's folder."""
        return tuple(sorted({path.stem for path in self._voice_files()}))

    def voice(self, voice: str | Path) -> RealtimeVoice:
        """A voice by its name in the model's folder, or by its file: safetensors, or ``.pt`` as published.

        Raises :class:`InputError` (no such voice), :class:`CheckpointError` (a bad or foreign file).
        """
        found = [path for path in self._voice_files() if path.stem == str(voice)] or [Path(voice)]
        if not found[0].is_file():
            known = ", ".join(self.voices()) or "none; give the path of a voice file"
            raise InputError(f"no voice {voice}; there are: {known}")
        return RealtimeVoice.load(found[0], self.model.config)

    def _voice_files(self) -> list[Path]:
        if self.folder is None:
            return []
        return [
            path for kind in ("safetensors", "pt") for path in self.folder.glob(f"{VOICE_FOLDER}/*.{kind}")
        ]

    def __call__(
        self, text: str | Iterable[str], voice: RealtimeVoice, options: RealtimeOptions | None = None
    ) -> RealtimeSpeech:
        """Speak a text as a whole; see :meth:`stream`."""
        *_, speech = self.stream(text, voice, options)
        assert isinstance(speech, RealtimeSpeech)
        return speech

    def stream(
        self, text: str | Iterable[str], voice: RealtimeVoice, options: RealtimeOptions | None = None
    ) -> Iterator[SpeechPiece | RealtimeSpeech]:
        """Yield each frame of sound as it is made, and the whole speech last.

        ``text`` may be an iterator of strings that are still being written (as another model writes, say): frames
        begin with its first words, and a word is read once the next has begun. How it is cut makes no difference.

        Raises :class:`InputError`: there is nothing to speak. A text too long for the model's positions is spoken as
        far as they reach.
        """
        options = options or RealtimeOptions()
        parts = [text] if isinstance(text, str) else text
        return self._stream(tokens_of(parts, self.tokenizer), voice, options)

    def _stream(
        self, tokens: Iterator[int], voice: RealtimeVoice, options: RealtimeOptions
    ) -> Iterator[SpeechPiece | RealtimeSpeech]:
        config = SpeechGenerationConfig(
            max_frames=self.model.config.text.max_positions,
            guidance=options.guidance,
            diffusion_steps=options.diffusion_steps,
            stochastic=options.stochastic,
            seed=options.seed,
        )
        pieces: list[np.ndarray] = []
        problem: str | None = "the model did not come to an end"
        try:
            for step in RealtimeGenerator(self.model, config).stream(tokens, voice):
                pieces.append(step.audio.numpy())
                problem = None if step.ended == "eos" else problem
                yield SpeechPiece(pieces[-1])
        except InputError as error:
            if not pieces:
                raise
            problem = str(error)
        yield RealtimeSpeech(np.concatenate(pieces), self.sample_rate, problem)


def tokens_of(parts: Iterable[str], tokenizer: TextTokenizer) -> Iterator[int]:
    """Ids of a text that comes in parts, and a line's end behind it, as the model was trained.

    White space becomes single blanks, so that a blank is always the beginning of a piece of the byte-level tokenizer's:
    cut there, the parts' ids are those of the whole.
    """
    waiting, begun = "", False
    for part in parts:
        waiting = re.sub(r"\s+", " ", waiting + part)
        if not begun:
            waiting = waiting.lstrip()
        cut = waiting.rstrip().rfind(" ")
        if cut > 0:
            begun = True
            yield from tokenizer.encode(waiting[:cut])
            waiting = waiting[cut:]
    waiting = waiting.rstrip() if begun else waiting.strip()
    if waiting or begun:
        yield from tokenizer.encode(waiting + "\n")
