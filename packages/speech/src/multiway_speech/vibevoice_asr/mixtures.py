"""Simulated conversations, mixed from single utterances, with exact times.

One to six sentences of one to four speakers, up to 20 s, with short gaps; loudness, resampled voices, a light room and
noise vary. Some are only silence or noise. Some come with a context of names and rare words, of which half occur.

Shape suffixes: T samples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from multiway_speech.audio import TARGET_DBFS
from multiway_speech.vibevoice_asr.corpus import RATE, Corpus, Utterance
from multiway_speech.vibevoice_asr.vocabulary import NOISE, SILENCE

LONGEST = 20.0
GRID = 0.08
"""Seconds; times of the transcripts are multiples."""
HELD_OUT_VOICES = frozenset({"af_kore", "am_liam", "bm_lewis"})
"""Never trained on, nor is what they say."""

Segment = tuple[float, float, int | None, str]
"""Start and end in seconds, speaker, text."""


@dataclass(frozen=True)
class Mixture:
    """A conversation.

    Attributes:
        waveform: float32 (T,) at the loudness that the model hears.
        segments: who says what when.
        context: names and terms that the prompt gives the model as context; empty if none.
        names: of the context, those that are said.
        phones: (start, end, phone), empty if the synthesizer gives none.
        voices: the speakers' voices, in order of their numbers.
    """

    waveform: np.ndarray
    segments: tuple[Segment, ...]
    context: str = ""
    names: tuple[str, ...] = ()
    phones: tuple[tuple[float, float, str], ...] = ()
    voices: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.waveform) / RATE


@dataclass(frozen=True)
class Turn:
    """What one speaker says without a stop. ``wave`` is None where only the times are wanted."""

    text: str
    seconds: float
    phones: tuple[tuple[float, float, str], ...]
    wave: np.ndarray | None = None


class Speakers(Protocol):
    """Who can take part in a conversation, and what is worth discriminator_loss beforehand."""

    chances: np.ndarray

    @property
    def voices(self) -> Sequence[str]: ...

    @property
    def words(self) -> Sequence[str]: ...

    def turn(self, voice: str, speed: float, rng: np.random.Generator) -> Turn:
        """Something that a voice says; at another speed it is another speaker's."""
        ...


class Pool:
    """Utterances to draw from: those to train on, or those held out, of known or of new voices."""

    def __init__(self, corpus: Corpus, part: str = "train") -> None:
        """``part``: ``train``, ``texts`` (held-out texts, known voices) or ``voices`` (new voices)."""
        kept_texts = {u.text for u in corpus.utterances if u.voice in HELD_OUT_VOICES}
        read_by_others = {u.text for u in corpus.utterances if u.voice not in HELD_OUT_VOICES}
        by_voice: dict[str, list[Utterance]] = {}
        for utterance in corpus.utterances:
            new_voice = utterance.voice in HELD_OUT_VOICES
            chosen = {
                "train": not new_voice and not utterance.held_out and utterance.text not in kept_texts,
                "texts": not new_voice and utterance.held_out and not utterance.voice.startswith("digits"),
                "voices": new_voice and utterance.text not in read_by_others,
            }[part]
            if chosen:
                by_voice.setdefault(utterance.voice, []).append(utterance)
        self.corpus = corpus
        self.voices = sorted(by_voice)
        self.by_voice = by_voice
        minutes = np.array([sum(u.seconds for u in by_voice[voice]) for voice in self.voices])
        weights = np.sqrt(minutes) * np.array([0.5 if v.startswith("digits") else 1.0 for v in self.voices])
        self.chances = weights / weights.sum()
        self.words = sorted(
            {word for voice in self.voices for u in by_voice[voice] for word in rare_words(u.text)}
        )

    def turn(self, voice: str, speed: float, rng: np.random.Generator) -> Turn:
        """A sentence, or a row of recorded digits."""
        own = self.by_voice[voice]
        chosen = [own[int(rng.integers(len(own)))]]
        if voice.startswith("digits"):
            chosen += [own[int(rng.integers(len(own)))] for _ in range(int(rng.integers(0, 5)))]
        waves: list[np.ndarray] = []
        phones: list[tuple[float, float, str]] = []
        for number, utterance in enumerate(chosen):
            if number:
                waves.append(np.zeros(int(rng.uniform(0.02, 0.2) * RATE), dtype=np.float32))
            at, begin = sum(map(len, waves)) / RATE, 0.0
            for phone, end in zip(utterance.phones, utterance.ends, strict=True):
                phones.append((at + begin / speed, at + end / speed, phone))
                begin = end
            waves.append(resample(self.corpus.waveform(utterance), speed))
        words = [utterance.text.rstrip(".") for utterance in chosen]
        text = chosen[0].text
        if len(chosen) > 1:
            text = f"{' '.join([words[0], *map(str.lower, words[1:])])}."
        wave = np.concatenate(waves)
        return Turn(text, len(wave) / RATE, tuple(phones), wave)


def rare_words(text: str) -> list[str]:
    """What may be in a context: long words, and those written with a capital inside a sentence."""
    words = re.findall(r"[A-Za-z][A-Za-z'-]+", text)
    names = [word for word in words[1:] if word[0].isupper() and len(word) > 3]
    return names or [word for word in words if len(word) > 8]


@dataclass(frozen=True)
class Plan:
    """Who says what when: (start, speaker, turn), speakers by first appearance, and the length in seconds."""

    turns: tuple[tuple[float, int, Turn], ...]
    voices: tuple[str, ...]
    seconds: float
    context: str = ""
    names: tuple[str, ...] = ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(
            (to_grid(start), to_grid(start + turn.seconds), speaker, turn.text)
            for start, speaker, turn in self.turns
        )

    @property
    def phones(self) -> tuple[tuple[float, float, str], ...]:
        return tuple(
            (start + begin, start + end, phone)
            for start, _, turn in self.turns
            for begin, end, phone in turn.phones
        )


def make_plan(
    speakers: Speakers,
    rng: np.random.Generator,
    *,
    plain: bool = False,
    context_chance: float = 0.3,
    longest: float = LONGEST,
) -> Plan:
    """Plan one conversation; ``plain`` leaves voices as they are."""
    rounds = int(rng.integers(1, 7))
    count = min(int(rng.choice((1, 1, 2, 2, 2, 3, 3, 4))), rounds, len(speakers.voices))
    voices = rng.choice(len(speakers.voices), size=count, replace=False, p=speakers.chances)
    speeds = [1.0 if plain or rng.random() < 0.5 else float(rng.uniform(0.85, 1.18)) for _ in voices]
    order = list(range(count))
    while len(order) < rounds:
        others = [one for one in range(count) if one != order[-1]]
        order.append(int(rng.choice(others)) if others and rng.random() < 0.75 else order[-1])
    turns: list[tuple[float, int, Turn]] = []
    numbers: dict[int, int] = {}
    at = float(rng.uniform(0.0, 0.6))
    for who in order:
        turn = speakers.turn(speakers.voices[voices[who]], speeds[who], rng)
        if at + turn.seconds > longest - 0.1:
            if turns:
                break
            continue
        turns.append((at, numbers.setdefault(who, len(numbers)), turn))
        at += turn.seconds + float(rng.uniform(0.1, 0.8))
    if not turns:
        return make_plan(speakers, rng, plain=plain, context_chance=context_chance, longest=longest)
    start, _, last = turns[-1]
    seconds = min(longest, start + last.seconds + float(rng.uniform(0.05, 0.8)))
    said = [speakers.voices[voices[who]] for who in sorted(numbers, key=numbers.__getitem__)]
    texts = [turn.text for _, _, turn in turns]
    context, names = _context(speakers.words, texts, rng) if rng.random() < context_chance else ("", ())
    return Plan(tuple(turns), tuple(said), seconds, context, names)


def make_mixture(
    speakers: Speakers,
    rng: np.random.Generator,
    *,
    plain: bool = False,
    context_chance: float = 0.3,
    empty_chance: float = 0.1,
    longest: float = LONGEST,
) -> Mixture:
    """Mix one conversation. ``plain`` leaves voices, room and level as they are, and the noise low."""
    if rng.random() < empty_chance:
        return _empty(rng)
    plan = make_plan(speakers, rng, plain=plain, context_chance=context_chance, longest=longest)
    total = int(plan.seconds * RATE)
    waveform: np.ndarray = np.zeros(total, dtype=np.float32)
    levels = [0.05 * 10 ** (float(rng.uniform(-4, 4)) / 20) for _ in plan.voices]
    for start, speaker, turn in plan.turns:
        assert turn.wave is not None
        place = int(start * RATE)
        wave = turn.wave[: total - place]
        waveform[place : place + len(wave)] += wave * (levels[speaker] / (_rms(turn.wave) + 1e-5))
    if not plain and rng.random() < 0.3:
        waveform = _room(waveform, rng)
    if plain or rng.random() < 0.5:
        below = 40.0 if plain else float(rng.uniform(5, 30))
        waveform = waveform + _noise(total, rng) * _rms(waveform) * 10 ** (-below / 20)
    return Mixture(at_target(waveform), plan.segments, plan.context, plan.names, plan.phones, plan.voices)


def at_target(waveform: np.ndarray) -> np.ndarray:
    """At the loudness of :class:`~multiway_speech.audio.Loudness.gain`."""
    gain = 10 ** (TARGET_DBFS / 20) / (_rms(waveform) + 1e-6)
    peak = float(np.abs(waveform).max()) * gain
    return (waveform * (gain / (peak + 1e-6) if peak > 1 else gain)).astype(np.float32)


def resample(waveform: np.ndarray, speed: float) -> np.ndarray:
    """Faster and higher (speed > 1), or slower and lower.

    Linear, unlike ``torchaudio.functional.resample``, whose filter for a speed that is no simple fraction is longer
    than the sentence; what it dulls is little beside the noise and rooms of the mixtures.
    """
    if speed == 1.0:
        return waveform
    places = np.arange(0.0, len(waveform) - 1, speed)
    return np.interp(places, np.arange(len(waveform)), waveform).astype(np.float32)


def _context(
    words: Sequence[str], texts: Sequence[str], rng: np.random.Generator
) -> tuple[str, tuple[str, ...]]:
    """One to five words, of which about half are said."""
    said = sorted({word for text in texts for word in rare_words(text)})
    number = int(rng.integers(1, 6))
    names = [str(name) for name in rng.permutation(said)[: int(rng.integers(0, (number + 1) // 2 + 1))]]
    spoken = " ".join(texts).lower()
    drawn = rng.integers(len(words), size=3 * number).tolist() if words else []
    for other in (words[place] for place in drawn):
        if len(names) < number and other.lower() not in spoken and other not in names:
            names.append(other)
    listed = [str(name) for name in rng.permutation(names)] if names else []
    return ", ".join(listed), tuple(name for name in listed if name in said)


def _empty(rng: np.random.Generator) -> Mixture:
    """Nothing but silence, or noise; faint hiss is noise too once it is at the loudness of speech."""
    seconds = float(rng.uniform(0.5, 8.0))
    total = int(seconds * RATE)
    if rng.random() < 0.3:
        return Mixture(np.zeros(total, dtype=np.float32), ((0.0, to_grid(seconds), None, SILENCE),))
    return Mixture(at_target(_noise(total, rng)), ((0.0, to_grid(seconds), None, NOISE),))


def to_grid(seconds: float) -> float:
    """The nearest time that transcripts can have."""
    return round(round(seconds / GRID) * GRID, 2)


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.square(waveform, dtype=np.float64).mean())) if len(waveform) else 0.0


def _noise(total: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit level whose spectrum falls with the frequency to a random power."""
    spectrum = np.fft.rfft(rng.standard_normal(total))
    frequency = np.maximum(np.arange(len(spectrum)) / len(spectrum), 1e-3)
    wave = np.fft.irfft(spectrum * frequency ** (-float(rng.uniform(0.0, 1.0))), total)
    return (wave / (_rms(wave) + 1e-9)).astype(np.float32)


def _room(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A short decaying echo."""
    from torchaudio.functional import fftconvolve

    length = int(float(rng.uniform(0.05, 0.25)) * RATE)
    decay = np.exp(-6.9 * np.arange(length) / length)
    echo = rng.standard_normal(length) * decay
    echo *= 10 ** (float(rng.uniform(-14, -4)) / 20) / np.sqrt(np.square(echo).sum())
    echo[: RATE // 400] = 0.0
    echo[0] = 1.0
    wet_T = fftconvolve(torch.from_numpy(waveform).double(), torch.from_numpy(echo))
    return wet_T[: len(waveform)].float().numpy()
