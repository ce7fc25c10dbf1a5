"""Text as if it had been heard: made-up encoder frames for sentences that nobody read aloud.

A small decoder cannot learn spelling, the transcript's format, and where to look from a few hours of speech alone. Text
is plentiful: its phones, given durations, stand for sound. A frame is what the encoders answer to the phones at its
place on average (a linear fit to real frames), plus what is left over of a real frame at the same place, so that noise,
its course in time, and the position that Whisper adds to its columns are real; plus a made-up speaker.

Shape suffixes: F frames, D numbers of a frame, P phones, A acoustic and S semantic numbers.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multiway_speech.speech_tokenizer.synthesize import brown_sentences
from multiway_speech.vibevoice_asr import corpus as corpora
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


class TextSpeakers:
    """Sentences with phones as the speakers of planned conversations."""

    def __init__(self, path: Path, corpus: Corpus, num_voices: int = 8) -> None:
        """``path``: what :func:`write_phones` wrote; ``corpus`` tells how long each phone lasts."""
        entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        self.sentences: list[tuple[str, list[str]]] = [(entry["text"], entry["phones"]) for entry in entries]
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
        self._fit(real)
        self.entries = [
            Entry(0, num_frames(plan.seconds), plan.seconds, plan.segments, plan.context, plan.names)
            for plan in self._plans
        ]

    def _fit(self, real: Features) -> None:
        """Least squares of frames on the phones of both columns, speakers' means, and what both leave over."""
        known = [
            place
            for place in range(len(real.entries))
            if (real.labels(place) != UNKNOWN).all() and real.entries[place].voices
        ]
        design = np.concatenate([_one_hot(real.labels(place)) for place in known])
        frames = np.concatenate([real.frames(place).astype(np.float32) for place in known])
        gram = design.T @ design + _RIDGE * np.eye(design.shape[1], dtype=np.float32)
        self.base_PD = np.linalg.solve(gram, design.T @ frames).astype(np.float32)
        self._rest: list[np.ndarray] = []
        means: list[np.ndarray] = []
        for place in known:
            rest = real.frames(place).astype(np.float32) - _one_hot(real.labels(place)) @ self.base_PD
            for speaker, spoken in _spoken(real.entries[place]):
                mean = rest[spoken, :ACOUSTIC].mean(axis=0)
                rest[spoken, :ACOUSTIC] -= mean
                if speaker is not None and spoken.sum() > 25:
                    means.append(mean)
            self._rest.append(rest.astype(np.float16))
        self._rest.sort(key=len)
        self._lengths = np.array([len(rest) for rest in self._rest])
        covariance = np.cov(np.stack(means).T) + 1e-6 * np.eye(ACOUSTIC)
        self._speaker_AA = np.linalg.cholesky(covariance).astype(np.float32)

    def frames(self, place: int) -> np.ndarray:
        """Float16 (F, D) of one conversation."""
        rng = np.random.default_rng((self._seed, place, 1))
        entry, labels = self.entries[place], self.labels(place)
        frames = _one_hot(labels) @ self.base_PD
        longer = np.searchsorted(self._lengths, entry.frames)
        if longer == len(self._rest):
            rest = np.concatenate([self._rest[int(rng.integers(len(self._rest)))] for _ in range(40)])
        else:
            rest = self._rest[int(rng.integers(longer, min(longer + 100, len(self._rest))))]
        # At full strength what is left over, which is of other words, hides more than a voice does.
        frames += rest[: entry.frames] * np.float32(rng.uniform(0.2, 0.8))
        voices: dict[int | None, np.ndarray] = {}
        for speaker, spoken in _spoken(entry):
            if speaker not in voices:
                voices[speaker] = self._speaker_AA @ rng.standard_normal(ACOUSTIC).astype(np.float32)
            frames[spoken, :ACOUSTIC] += voices[speaker]
        return frames.astype(np.float16)

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
    from multiway_speech.speech_tokenizer.teachers import Phones

    said = Phones("en-us", tie=False)
    with path.open("w", encoding="utf-8") as lines:
        for text in texts:
            symbols = [symbol for symbol in said(text) if symbol.strip() or symbol == " "]
            phones, _ = spread(symbols, [0.0] * len(symbols))
            kept = list(phones)
            while kept and kept[-1] == SILENCE:
                kept.pop()
            if kept:
                lines.write(json.dumps({"text": text, "phones": kept}, ensure_ascii=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Phones of sentences that the small ASR reads in training.")
    parser.add_argument("--brown", type=Path, required=True)
    parser.add_argument("--cmudict", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True, help="whose held-out sentences are left out")
    parser.add_argument("--made", type=int, default=12_000, help="sentences with names, numbers, times")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=30)
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    plain = brown_sentences(options.brown)
    names = [name for name in rare_names(options.cmudict, plain) if not is_held_out(name)]
    new_voices = {u.text for u in corpora.load(options.corpus).utterances if u.voice in HELD_OUT_VOICES}
    texts = [clean(text) for text in plain] + [made_sentence(rng, names) for _ in range(options.made)]
    kept = [text for text in dict.fromkeys(texts) if not is_held_out(text) and text not in new_voices]
    rng.shuffle(kept)
    write_phones(kept, options.out)
    print(f"{len(kept)} sentences in {options.out}")


if __name__ == "__main__":
    main()
