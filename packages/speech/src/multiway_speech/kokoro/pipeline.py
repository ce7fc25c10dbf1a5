"""Script and voices -> speech by Kokoro, sentence by sentence: the voices for everyday speech.

Call and result are those of :class:`multiway_speech.vibevoice.pipeline.TtsPipeline`, whose network speaks dialogues.

Shape suffixes: L symbols, S both halves of a style, N samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core.errors import CheckpointError, InputError
from safetensors.torch import load_file
from torch import Tensor

from multiway_speech.audio import Sound
from multiway_speech.kokoro import weights
from multiway_speech.kokoro.model import Kokoro
from multiway_speech.kokoro.phones import ids_of, spelt, symbols_of
from multiway_speech.pronunciation.english import EnglishPronouncer, Word
from multiway_speech.pronunciation.language import remarks_on
from multiway_speech.script import Script, parse_script
from multiway_speech.vibevoice.pipeline import MAX_SPEAKERS, Section, Speech, SpeechOptions, SpeechPiece

INSTALLED = "kokoro"
"""Name of the model in the installed packages."""
VOICES = ("heart", "michael", "emma", "fenrir")
"""The voices that lie here, of the 28 English ones of Kokoro: af_heart, am_michael, bf_emma, am_fenrir."""
STYLES = (510, 256)
"""A style for each number of symbols."""
MAX_SYMBOLS, COMFORTABLE, SHORTEST = 480, 260, 16
"""Of what is spoken in one go: at most; from which on a mark within a sentence ends it; and below which it takes the
next sentence as well, since very short ones come out hurried."""
SENTENCE_PAUSE, PART_PAUSE = 0.35, 0.12
"""Seconds of silence behind a sentence, and behind a part of one."""
_QUIET, _EDGE = 10 ** (-42 / 20), 0.03
"""What is softer than this beside the peak is silence, of which so many seconds are kept at both ends."""
_ENDS = (".", "?", "!")


@dataclass(frozen=True)
class KokoroVoice:
    """A voice: styles (510, 256), float32, one for each number of symbols."""

    name: str
    styles_LS: Tensor


class KokoroPipeline:
    """Speaks scripts with Kokoro; English, 24 kHz."""

    takes_recordings = False

    def __init__(self, name: str, model: Kokoro, path: Path | None = None) -> None:
        """``path``: of a folder with more voices, ``voices/NAME.pt``."""
        self.name = name
        self.model = model
        self.path = path
        self.pronounce = EnglishPronouncer()

    @classmethod
    def from_pretrained(
        cls,
        name: str = INSTALLED,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> KokoroPipeline:
        """``kokoro`` of the installed packages (``multiway-tts[kokoro]``), or a folder as ``hexgrad/Kokoro-82M`` is.

        The vocoder computes in bfloat16 where the processor has AMX units for it, else in float32, unless ``dtype``
        says. Raises ModelNotFoundError, CheckpointError.
        """
        if dtype is None:
            on_cpu = torch.device(device).type == "cpu"
            fast = not on_cpu or torch.cpu.get_capabilities().get("amx_bf16")
            dtype = torch.bfloat16 if fast else torch.float32
        if name == INSTALLED:
            return cls(name, weights.load_installed(dtype).to(device))
        return cls(name, weights.load_folder(Path(name), dtype).to(device), Path(name))

    @property
    def defaults(self) -> SpeechOptions:
        """How to speak where nothing else is asked for; of the options, speed, pause and seed matter here."""
        return SpeechOptions(guidance=1.0, diffusion_steps=1)

    @property
    def sample_rate(self) -> int:
        """Samples a second: the network's own 24,000."""
        return self.model.config.sample_rate

    def voices(self) -> tuple[str, ...]:
        """Names of the voices, the first speaker's first."""
        own = () if self.path is None else sorted(path.stem for path in self.path.glob("voices/*.pt"))
        return (*VOICES, *(name for name in own if name not in VOICES))

    def voice(self, name: str, sound: Sound | Path | str | None = None) -> KokoroVoice:
        """The voice of that name. Raises InputError: no such voice, or a recording, which Kokoro cannot imitate."""
        if sound is not None:
            raise InputError(
                "Kokoro has its own voices only; recordings are imitated by --model bundled:tts-tiny"
            )
        if name in VOICES:
            styles_LS = load_file(Path(__file__).with_name("voices.safetensors"))[name]
            return KokoroVoice(name, styles_LS.float())
        if self.path is not None and name in self.voices():
            return self.voice_file(self.path / "voices" / f"{name}.pt")
        raise InputError(f"Kokoro has no voice {name!r}; it has: {', '.join(self.voices())}")

    def voice_file(self, path: Path) -> KokoroVoice:
        """A voice as published, ``NAME.pt``: a tensor (510, 1, 256). Raises CheckpointError."""
        try:
            tensor = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # what weights_only refuses is pickle's own error
            raise CheckpointError(f"{path}: not a voice of Kokoro ({type(error).__name__})") from None
        if not isinstance(tensor, Tensor) or tensor.numel() != STYLES[0] * STYLES[1]:
            raise CheckpointError(f"{path}: not a voice of Kokoro: expected a tensor of 510 x 1 x 256")
        return KokoroVoice(path.stem, tensor.float().reshape(STYLES))

    def check(self, script: Script) -> list[str]:
        """What the user should know before it is spoken. Raises InputError with the line of what cannot be said."""
        return remarks_on(script, self.pronounce)

    def __call__(
        self,
        script: Script | str,
        voices: Mapping[str, KokoroVoice] | None = None,
        options: SpeechOptions | None = None,
    ) -> Speech:
        """Speak a script as a whole; see :meth:`stream`."""
        *_, speech = self.stream(script, voices, options)
        assert isinstance(speech, Speech)
        return speech

    def stream(
        self,
        script: Script | str,
        voices: Mapping[str, KokoroVoice] | None = None,
        options: SpeechOptions | None = None,
    ) -> Iterator[SpeechPiece | Speech]:
        """Yield the sound of each sentence, and the whole :class:`Speech` last; each turn is a section.

        Args:
            script: read, or to be read; the voices of the model may be called by name in it.
            voices: by the script's names of speakers; None gives them the model's in order.
            options: speed, pause and seed.

        Raises InputError: a bad script, a speaker without a voice, nothing that can be said.
        """
        options = options or self.defaults
        if isinstance(script, str):
            known = tuple(voices) if voices is not None else self.voices()
            script = parse_script(script, voices=known, max_speakers=MAX_SPEAKERS)
        if voices is None:
            free = [name for name in self.voices() if name not in script.speakers]
            names = [name if name in self.voices() else free.pop(0) for name in script.speakers]
            voices = {speaker: self.voice(name) for speaker, name in zip(script.speakers, names, strict=True)}
        missing = [name for name in script.speakers if name not in voices]
        if missing:
            raise InputError(
                f"{missing[0]} has no voice; there are voices for: {', '.join(voices) or 'nobody'}"
            )
        said = [self.pronounce.words(turn.text) for turn in script.turns]
        return self._stream(script, said, voices, options)

    def _stream(
        self,
        script: Script,
        said: Sequence[Sequence[Word]],
        voices: Mapping[str, KokoroVoice],
        options: SpeechOptions,
    ) -> Iterator[SpeechPiece | Speech]:
        pieces: list[np.ndarray] = []
        sections: list[Section] = []
        count, gap = 0, 0.0

        def silence(seconds: float) -> np.ndarray:
            return np.zeros(round(seconds * self.sample_rate), dtype=np.float32)

        for turn, words in zip(script.turns, said, strict=True):
            if turn.pause_ms:
                gap = turn.pause_ms / 1000
            voice = voices[script.speakers[turn.speaker]]
            start: float | None = None
            for part in parts_of(words):
                samples_N = self._speak(part, voice, options, len(pieces))
                piece = np.concatenate([silence(gap), samples_N])
                start = (count + len(piece) - len(samples_N)) / self.sample_rate if start is None else start
                pieces.append(piece)
                count += len(piece)
                yield SpeechPiece(piece)
                ended = part[-1].mark in _ENDS
                pause = SENTENCE_PAUSE if options.pause is None else options.pause
                gap = pause if ended else min(pause, PART_PAUSE)
                gap /= options.speed if options.pause is None else 1.0
            sections.append(Section(start or 0.0, count / self.sample_rate, (turn,), True))
        if script.final_pause_ms:
            pieces.append(silence(script.final_pause_ms / 1000))
            yield SpeechPiece(pieces[-1])
        yield Speech(np.concatenate(pieces), self.sample_rate, script, tuple(sections))

    def _speak(
        self, words: Sequence[Word], voice: KokoroVoice, options: SpeechOptions, number: int
    ) -> np.ndarray:
        """Samples (N,) of a sentence, with a little silence at both ends."""
        ids = ids_of(symbols_of(words))
        device = self.model.bert_encoder.weight.device
        style_S = voice.styles_LS[min(len(ids), STYLES[0]) - 1].to(device)
        generator = torch.Generator().manual_seed(options.seed + number)
        ids_L = torch.tensor([0, *ids, 0], device=device)
        samples_N, _ = self.model(ids_L, style_S, options.speed, generator)
        return trimmed(samples_N.cpu().numpy(), self.sample_rate)


def parts_of(words: Iterable[Word]) -> Iterator[list[Word]]:
    """What is spoken in one go: sentences, short ones together, long ones in parts."""
    part: list[Word] = []
    size = 0
    for word in words:
        new = len(spelt(word)) + 2
        if part and size + new > MAX_SYMBOLS:
            yield part
            part, size = [], 0
        part.append(word)
        size += new
        if size >= (SHORTEST if word.mark in _ENDS else COMFORTABLE if word.mark else MAX_SYMBOLS):
            yield part
            part, size = [], 0
    if part:
        yield part


def trimmed(samples_N: np.ndarray, rate: int) -> np.ndarray:
    """Without the silence at both ends but for a few hundredths of a second."""
    loud = np.flatnonzero(np.abs(samples_N) > _QUIET * np.abs(samples_N).max(initial=0.0))
    if not len(loud):
        return samples_N
    around = round(_EDGE * rate)
    return samples_N[max(0, loud[0] - around) : loud[-1] + 1 + around]
