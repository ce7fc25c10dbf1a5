"""Script and voices -> speech: the one path of commands, demo, evaluation and Python users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

from multiway_speech.audio import Sound, SoundFile
from multiway_speech.pronunciation.english import EnglishPronouncer
from multiway_speech.pronunciation.language import remarks_on
from multiway_speech.script import Script, Turn, parse_script
from multiway_speech.tempo import Tempo
from multiway_speech.vibevoice import checkpoint, folder
from multiway_speech.vibevoice.generation import SpeechGenerationConfig, SpeechGenerator
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.phone_tokenizer import as_text
from multiway_speech.vibevoice.prompt import PromptWriter
from multiway_speech.vibevoice.voices import VOICE_FOLDER, Voice, encode_voice

MAX_SPEAKERS = 4
TOKENIZER = "Qwen/Qwen2.5-1.5B"
"""Where the published models, which come without tokenizer files, have their vocabulary from."""
MAX_TURN = 600
"""Characters of a turn before it is cut in several: in very long turns the models begin to hurry."""
MAX_SCRIPTED_SECTION = 180
"""Characters that a model which reads along speaks in one go: about the longest speech that ours was trained on."""


@dataclass(frozen=True)
class SpeechOptions:
    """How to speak; see :class:`~multiway_speech.vibevoice.generation.SpeechGenerationConfig`.

    Attributes:
        speed: 1 is the model's own, 2 twice as fast; what has no durations is stretched (``multiway_speech.tempo``).
        pause: seconds of silence between sentences where the script has no pause of its own; None is the model's way.
            A model that speaks several sentences in one go makes it between these.
    """

    guidance: float = 1.3
    diffusion_steps: int = 10
    stochastic: bool = False
    temperature: float = 1.0
    seed: int = 0
    speed: float = 1.0
    pause: float | None = None


SCRIPTED_OPTIONS = SpeechOptions(guidance=1.0, diffusion_steps=5, temperature=0.7)
"""What suits our small model: guidance makes its speech less clear, and more steps do not make it clearer; with less
noise to begin with it is clearer, and nearer to its voice."""


@dataclass(frozen=True)
class SpeechPiece:
    """New sound: float32 (T,) at the pipeline's sample rate, silence of pauses included."""

    samples: np.ndarray


@dataclass(frozen=True)
class Section:
    """What was spoken in one go.

    Attributes:
        start, end: seconds from the beginning of the speech.
        turns: of the script.
        turn_starts: seconds at which each turn begins, where the model tells; else empty.
        complete: False if the model had not come to its end when the limit was reached.
    """

    start: float
    end: float
    turns: tuple[Turn, ...]
    complete: bool
    turn_starts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Speech:
    """All of it."""

    samples: np.ndarray
    sample_rate: int
    script: Script
    sections: tuple[Section, ...]

    @property
    def complete(self) -> bool:
        """Whether every section came to its own end."""
        return all(section.complete for section in self.sections)


class TtsPipeline:
    """Speaks scripts with one model."""

    takes_recordings = True

    def __init__(
        self, name: str, model: VibeVoice, tokenizer: TextTokenizer, path: Path | None = None
    ) -> None:
        """``path``: of the model's folder, where its voices lie."""
        self.name = name
        self.model = model
        self.prompts = PromptWriter(tokenizer, model.config.tokens)
        self.path = path
        self.pronounce = EnglishPronouncer()
        self.speaker_tokens: set[int] = set()
        if model.config.reads_along:
            self.speaker_tokens = {tokenizer.encode(f" Speaker {k}:")[0] for k in range(MAX_SPEAKERS)}

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> TtsPipeline:
        """Load ``bundled:NAME``, a local folder, or a hub id such as ``microsoft/VibeVoice-1.5B``.

        ``dtype`` is float32 by default on a CPU and bfloat16 elsewhere. Raises :class:`ModelNotFoundError`,
        :class:`CheckpointError` or :class:`ConfigError`.
        """
        path = Path(hub.resolve(name, revision=revision))
        if dtype is None:
            dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
        load = folder.load if folder.is_ours(path) else checkpoint.load
        model = load(path, dtype=dtype, device=device)
        return cls(name, model, TextTokenizer.from_folder(path, fallback=TOKENIZER), path)

    @property
    def defaults(self) -> SpeechOptions:
        """How to speak where nothing else is asked for."""
        return SCRIPTED_OPTIONS if self.model.config.reads_along else SpeechOptions()

    @property
    def sample_rate(self) -> int:
        """Samples a second of all sound here."""
        return self.model.config.acoustic.sample_rate

    def voices(self) -> tuple[str, ...]:
        """Names of the voices that come with the model, the first speaker's first."""
        return tuple(path.stem for path in self._voice_files())

    def _voice_files(self) -> list[Path]:
        found = [] if self.path is None else sorted(self.path.glob(f"{VOICE_FOLDER}/*.safetensors"))
        first = self.model.config.voices
        return sorted(found, key=lambda path: first.index(path.stem) if path.stem in first else len(first))

    def voice(self, name: str, sound: Sound | Path | str | None = None) -> Voice:
        """The model's voice of that name, or one from a recording of 1 to 60 seconds (path or :class:`Sound`).

        Raises :class:`InputError`: no such voice, or a recording that is not speech of that length.
        """
        if sound is None:
            found = [path for path in self._voice_files() if path.stem == name]
            if not found:
                known = ", ".join(self.voices()) or "none; give a recording"
                raise InputError(f"the model has no voice {name!r}; it has: {known}")
            return Voice.load(found[0], self.model.config.acoustic.latent_size)
        heard = SoundFile(sound) if isinstance(sound, Path | str) else sound
        return encode_voice(self.model.acoustic, heard, name)

    def voice_file(self, path: Path) -> Voice:
        """A voice that :meth:`Voice.save` wrote. Raises CheckpointError, InputError."""
        if path.suffix.lower() == ".pt":
            raise InputError(
                f"{path}: .pt voices are of other models; this one takes recordings or .safetensors"
            )
        return Voice.load(path, self.model.config.acoustic.latent_size)

    def check(self, script: Script) -> list[str]:
        """What the user should know before it is spoken. Raises InputError with the line of what cannot be said."""
        return remarks_on(script, self.pronounce) if self.model.config.reads_along else []

    def __call__(
        self,
        script: Script | str,
        voices: Mapping[str, Voice] | None = None,
        options: SpeechOptions | None = None,
    ) -> Speech:
        """Speak a script as a whole; see :meth:`stream`."""
        *_, speech = self.stream(script, voices, options)
        assert isinstance(speech, Speech)
        return speech

    def stream(
        self,
        script: Script | str,
        voices: Mapping[str, Voice] | None = None,
        options: SpeechOptions | None = None,
    ) -> Iterator[SpeechPiece | Speech]:
        """Yield sound as it is made, a frame or a pause at a time, and the whole speech last.

        ``voices``: by the name that the script has for a speaker (``Speaker 1``, or the voice's own). The other
        speakers get the voices that come with the model; where there are none, and none is given, the model chooses.
        The result for a script, voices and options is the same every time.

        Raises :class:`InputError`: a bad script, a speaker without a voice, or a section too long for the model.
        """
        voices, options = voices or {}, options or self.defaults
        if isinstance(script, str):
            names = (*voices, *(name for name in self.voices() if name not in voices))
            script = parse_script(script, voices=names, max_speakers=MAX_SPEAKERS)
        chosen = self._chosen(script, voices)
        along = self.model.config.reads_along
        return self._stream(script.split(MAX_SCRIPTED_SECTION if along else MAX_TURN), chosen, options)

    def _chosen(self, script: Script, voices: Mapping[str, Voice]) -> list[Voice]:
        own = self.voices()
        if not voices and not own:
            return []
        taken = {voices[name].name if name in voices else name for name in script.speakers}
        free = [name for name in own if name not in taken]
        chosen: list[Voice] = []
        for name in script.speakers:
            if name in voices:
                chosen.append(voices[name])
            elif name in own or free:
                chosen.append(self.voice(name if name in own else free.pop(0)))
            else:
                raise InputError(f"{name} has no voice; there are voices for: {', '.join(voices)}")
        return chosen

    def _sections(self, script: Script) -> Iterator[list[Turn]]:
        """What is spoken in one go: the turns between pauses, in parts that a model which reads along can hold."""
        for turns in script.sections():
            if not self.model.config.reads_along:
                yield turns
                continue
            part: list[Turn] = []
            for turn in turns:
                if part and sum(len(one.text) for one in (*part, turn)) > MAX_SCRIPTED_SECTION:
                    yield part
                    part = []
                part.append(turn)
            yield part

    def _stream(
        self, script: Script, voices: Sequence[Voice], options: SpeechOptions
    ) -> Iterator[SpeechPiece | Speech]:
        pieces: list[np.ndarray] = []
        done: list[Section] = []
        count = 0
        for index, turns in enumerate(self._sections(script)):
            pause_ms = turns[0].pause_ms or (round(1000 * (options.pause or 0)) if index else 0)
            if pause_ms:
                pieces.append(self._silence(pause_ms))
                count += len(pieces[-1])
                yield SpeechPiece(pieces[-1])
            start, complete, heard = count, False, 0
            turn_starts: list[float] = []
            tempo = Tempo(self.sample_rate, options.speed)
            for piece, begins, ended in self._speak(
                turns, voices, replace(options, seed=options.seed + index)
            ):
                complete = complete or ended
                if begins:
                    turn_starts.append((start + heard / options.speed) / self.sample_rate)
                heard += len(piece)
                piece = tempo.feed(piece)
                if len(piece):
                    pieces.append(piece)
                    count += len(piece)
                    yield SpeechPiece(piece)
            rest = tempo.finish()
            if len(rest):
                pieces.append(rest)
                count += len(rest)
                yield SpeechPiece(rest)
            times = (start / self.sample_rate, count / self.sample_rate)
            done.append(Section(*times, tuple(turns), complete, tuple(turn_starts)))
        if script.final_pause_ms:
            pieces.append(self._silence(script.final_pause_ms))
            yield SpeechPiece(pieces[-1])
        samples = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)
        yield Speech(samples, self.sample_rate, script, tuple(done))

    def _speak(
        self, turns: Sequence[Turn], voices: Sequence[Voice], options: SpeechOptions
    ) -> Iterator[tuple[np.ndarray, bool, bool]]:
        """Sound of a section frame by frame, whether a turn is known to begin, and whether the model is at its end."""
        phone_scripts: list[Tensor] | None = None
        if self.model.config.reads_along:
            # Only those who speak in this section are prompted, in the order of their turns.
            speaking = list(dict.fromkeys(turn.speaker for turn in turns))
            voices = [voices[speaker] for speaker in speaking]
            pronounced = [
                Turn(speaking.index(turn.speaker), as_text(self.pronounce(turn.text))) for turn in turns
            ]
            prompt = self.prompts.write_voices([len(voice.latents_FD) for voice in voices])
            phone_scripts = [self.prompts.write_phone_script(pronounced)]
        else:
            prompt = self.prompts.write(turns, [len(voice.latents_FD) for voice in voices])
        config = SpeechGenerationConfig(
            max_frames=self._limit(turns, len(prompt)),
            guidance=options.guidance,
            diffusion_steps=options.diffusion_steps,
            stochastic=options.stochastic,
            temperature=options.temperature,
            seed=options.seed,
        )
        latents_ND = None
        if voices:
            latents_ND = torch.cat([voice.latents_FD for voice in voices]).to(self.model.latent_scale)
        for step in SpeechGenerator(self.model, config).stream([prompt], latents_ND, phone_scripts):
            wave = step.audio.get(0)
            samples = np.zeros(0, dtype=np.float32) if wave is None else wave.numpy()
            yield samples, step.tokens[0] in self.speaker_tokens, step.ended.get(0) == "eos"

    def _limit(self, turns: Sequence[Turn], prompt_length: int) -> int:
        """Frames that the slowest reader would need, and no more than fit behind the prompt."""
        characters = sum(len(turn.text) for turn in turns)
        wide = sum(ord(c) >= 0x2E80 for turn in turns for c in turn.text)  # a syllable or more each
        slow = 10 + 0.3 * characters + 0.7 * wide  # seconds
        free = self.model.config.text.max_positions - prompt_length
        if free < 1:
            raise InputError(
                f"a section of {characters} characters and its voices take {prompt_length} positions, and the model has"
                f" {self.model.config.text.max_positions}; divide the script with [pause:300ms]"
            )
        return min(free, round(slow * self.model.config.acoustic.frame_rate))

    def _silence(self, milliseconds: int) -> np.ndarray:
        return np.zeros(milliseconds * self.sample_rate // 1000, dtype=np.float32)
