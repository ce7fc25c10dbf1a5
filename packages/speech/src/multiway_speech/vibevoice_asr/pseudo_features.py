"""Pseudo-features: generated acoustic frames for sentences without a recording.

From a few hours of speech alone a small decoder soon knows the sentences by heart, and writes them instead of what was
recognized. Text is plentiful: its phones, given durations, stand for sound. The acoustic numbers of a frame are those
of its phones on average (a linear fit to real frames), of a made-up speaker, and what is left over of a real frame.

Shape suffixes: F frames, P phones, A acoustic numbers.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from multiway_core.errors import InputError

from multiway_speech.speech_tokenizer.synthesize import brown_sentences
from multiway_speech.vibevoice_asr.corpus import SILENCE, Corpus, clean, spread
from multiway_speech.vibevoice_asr.features import (
    ACOUSTIC,
    FRAMES,
    PHONES,
    UNKNOWN,
    Entry,
    Features,
    label_columns,
)
from multiway_speech.vibevoice_asr.mixtures import (
    HELD_OUT_VOICES,
    Mixture,
    Plan,
    Turn,
    make_plan,
    rare_words,
)
from multiway_speech.vibevoice_asr.sentences import is_held_out, made_sentence, rare_names

_RIDGE = 10.0


Sentence = tuple[str, Sequence[str]]
"""A text and its phones."""


def read_phones(path: Path) -> list[Sentence]:
    """What :func:`write_phones` wrote. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with multiway-asr data phones")
    entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [(entry["text"], entry["phones"]) for entry in entries]


class TextSpeakers:
    """Sentences with phones as the speakers of planned conversations."""

    def __init__(self, sentences: Sequence[Sentence], corpus: Corpus, num_voices: int = 8) -> None:
        """``sentences``: texts with their phones; ``corpus`` tells how long each phone lasts."""
        self.sentences = sentences
        self.voices = [str(number) for number in range(num_voices)]
        self.chances = np.full(num_voices, 1 / num_voices)
        self.words = sorted({word for text, _ in self.sentences for word in rare_words(text)})
        durations: dict[str, list[float]] = defaultdict(list)
        for utterance in corpus.utterances:
            begin = 0.0
            for phone, end in zip(utterance.phones, utterance.ends, strict=True):
                durations[phone].append(end - begin)
                begin = end
        self._durations = {phone: np.array(values) for phone, values in durations.items() if len(values) > 20}

    def turn(self, voice: str, speed: float, rng: np.random.Generator) -> Turn:
        """A random sentence, each phone as long as one of the real ones."""
        text, phones = self.sentences[int(rng.integers(len(self.sentences)))]
        at, said = 0.0, []
        speed *= float(rng.uniform(0.9, 1.1))
        for phone in phones:
            known = self._durations.get(phone, self._durations["ə"])
            seconds = float(known[int(rng.integers(len(known)))]) / speed
            said.append((at, at + seconds, phone))
            at += seconds
        return Turn(text, at, tuple(said))


class PseudoFeatures:
    """Conversations of :class:`TextSpeakers` as a source of frames, like :class:`~.features.Features`."""

    def __init__(
        self, speakers: TextSpeakers, real: Features, count: int, seed: int, context_chance: float = 0.3
    ) -> None:
        self._plans: list[Plan] = [
            make_plan(speakers, np.random.default_rng((seed, number)), context_chance=context_chance)
            for number in range(count)
        ]
        self._seed = seed
        self.entries = [
            Entry(0, num_frames(plan.seconds), plan.seconds, plan.segments, plan.context, plan.names)
            for plan in self._plans
        ]
        known = [
            place
            for place in range(len(real.entries))
            if real.entries[place].voices and (real.labels(place) != UNKNOWN).all()
        ]
        self._fit(real, known[:300])

    def _fit(self, real: Features, known: Sequence[int]) -> None:
        """Least squares of acoustic numbers on phones, speakers' means, and what both leave over."""
        design = np.concatenate([_one_hot(real.labels(place)) for place in known])
        frames = np.concatenate([real.frames(place)[:, :ACOUSTIC].astype(np.float32) for place in known])
        gram = design.T @ design + _RIDGE * np.eye(design.shape[1], dtype=np.float32)
        self._base_PA = np.linalg.solve(gram, design.T @ frames).astype(np.float32)
        self._rest: list[np.ndarray] = []
        means: list[np.ndarray] = []
        for place in known:
            rest = real.frames(place)[:, :ACOUSTIC].astype(np.float32)
            rest -= _one_hot(real.labels(place)) @ self._base_PA
            for speaker, spoken in _spoken(real.entries[place]):
                mean = rest[spoken].mean(axis=0) if spoken.any() else np.zeros(ACOUSTIC)
                rest[spoken] -= mean
                if speaker is not None and spoken.sum() > 25:
                    means.append(mean)
            self._rest.append(rest.astype(np.float16))
        covariance = np.cov(np.stack(means).T) + 1e-6 * np.eye(ACOUSTIC)
        self._speaker_AA = np.linalg.cholesky(covariance).astype(np.float32)

    def frames(self, place: int) -> np.ndarray:
        """Float16 (F, A) of one conversation."""
        rng = np.random.default_rng((self._seed, place, 1))
        entry, labels = self.entries[place], self.labels(place)
        acoustic = _one_hot(labels) @ self._base_PA
        rest = np.concatenate([self._rest[int(rng.integers(len(self._rest)))] for _ in range(3)])
        acoustic += np.resize(rest, acoustic.shape)
        voices: dict[int | None, np.ndarray] = {}
        for speaker, spoken in _spoken(entry):
            if speaker not in voices:
                voices[speaker] = self._speaker_AA @ rng.standard_normal(ACOUSTIC).astype(np.float32)
            acoustic[spoken] += voices[speaker]
        return acoustic.astype(np.float16)

    def labels(self, place: int) -> np.ndarray:
        """Uint8 (F, 2) of one conversation."""
        plan = self._plans[place]
        mixture = Mixture(np.zeros(0, dtype=np.float32), plan.segments, phones=plan.phones)
        return label_columns(mixture, num_frames(plan.seconds))


def num_frames(seconds: float) -> int:
    """Frames of a recording, whole positions of the decoder."""
    return FRAMES * int(np.ceil(seconds * 25 / FRAMES))


def _spoken(entry: Entry) -> list[tuple[int | None, np.ndarray]]:
    """Of each segment its speaker and where it is, bool (F,)."""
    middles = (np.arange(entry.frames) + 0.5) / 25
    return [(speaker, (middles >= start) & (middles < end)) for start, end, speaker, _ in entry.segments]


def _one_hot(labels_F2: np.ndarray) -> np.ndarray:
    """Float32 (F, 2 P): the phones of a frame's first and of its second column."""
    count = len(PHONES)
    hot = np.zeros((len(labels_F2), 2 * count), dtype=np.float32)
    rows = np.arange(len(labels_F2))
    hot[rows, labels_F2[:, 0]] = 1.0
    hot[rows, count + labels_F2[:, 1]] = 1.0
    return hot


def write_phones(texts: Sequence[str], path: Path) -> None:
    """Write a line with ``text`` and ``phones`` for each sentence, through espeak-ng. Raises InputError without it."""
    from multiway_speech.speech_tokenizer.teachers import Phonemizer

    said = Phonemizer("en-us", tie=False)
    with path.open("w", encoding="utf-8") as lines:
        for text in texts:
            symbols = [symbol for symbol in said(text) if symbol.strip() or symbol == " "]
            phones, _ = spread(symbols, [0.0] * len(symbols))
            kept = list(phones)
            while kept and kept[-1] == SILENCE:
                kept.pop()
            if kept:
                lines.write(json.dumps({"text": text, "phones": kept}, ensure_ascii=False) + "\n")


def write_training_phones(
    brown: Path, cmudict: Path, corpus: Corpus, out: Path, *, made: int = 12_000, seed: int = 30
) -> int:
    """Write phones of Brown's sentences and ``made`` ones, without those held out in ``corpus``; how many there are."""
    rng = random.Random(seed)
    plain = brown_sentences(brown)
    names = [name for name in rare_names(cmudict, plain) if not is_held_out(name)]
    new_voices = {u.text for u in corpus.utterances if u.voice in HELD_OUT_VOICES}
    texts = [clean(text) for text in plain] + [made_sentence(rng, names) for _ in range(made)]
    kept = [text for text in dict.fromkeys(texts) if not is_held_out(text) and text not in new_voices]
    rng.shuffle(kept)
    write_phones(kept, out)
    return len(kept)
