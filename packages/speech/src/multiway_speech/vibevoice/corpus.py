"""Training corpus of the small model: latents of the codec, and the duration of each phone in frames.

The folders are those that ``speech_tokenizer.synthesize`` writes: its manifests tell when each phone was said.

Shape suffixes: N frames of all clips, F frames of a clip, D latent size, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multiway_speech import corpus_file
from multiway_speech.audio import TARGET_DBFS, SoundFile, read
from multiway_speech.pronunciation.align import align_sentence
from multiway_speech.pronunciation.english import EnglishPronouncer
from multiway_speech.pronunciation.phones import BOUNDARY
from multiway_speech.speech_tokenizer.corpus import Clip
from multiway_speech.speech_tokenizer.model import AcousticTokenizer
from multiway_speech.speech_tokenizer.synthesize import read_manifest

SILENCE_BEFORE, SILENCE_AFTER = 0.08, 0.2
"""Seconds that are left of a synthesizer's silence around a sentence."""
MAX_SECONDS = 20.0


@dataclass(frozen=True)
class Utterance:
    """A sentence that was spoken.

    Attributes:
        group: folder. voice: who speaks. text: what.
        start, length: where its frames lie.
        symbols: phones and marks, with the words' boundaries.
        frames: frames of the silence before, then of each symbol but the boundaries; together ``length``.
    """

    group: str
    voice: str
    text: str
    start: int
    length: int
    symbols: Sequence[str]
    frames: Sequence[int]

    @property
    def held_out(self) -> bool:
        """The codec's split: one text in twenty, the same for all voices."""
        return Clip(self.group, self.text, 0, 0, 0.0).held_out


@dataclass(frozen=True)
class SpeechCorpus:
    """Utterances, and raw latents (N, D) of all of them in float16."""

    utterances: tuple[Utterance, ...]
    latents_ND: np.ndarray

    def latents(self, utterance: Utterance) -> Tensor:
        """Float32 (F, D)."""
        part = self.latents_ND[utterance.start : utterance.start + utterance.length]
        return torch.from_numpy(part.astype(np.float32))

    def part(self, *, held_out: bool) -> tuple[Utterance, ...]:
        return tuple(item for item in self.utterances if item.held_out == held_out)


def durations(ends: Sequence[float], length: int, frame_rate: float) -> list[int]:
    """Frames of each interval between ``ends`` (seconds, from 0 on); the last one takes the rest of ``length``."""
    places = [min(length, round(end * frame_rate)) for end in ends[:-1]] + [length]
    return [after - before for before, after in zip([0, *places[:-1]], places, strict=True)]


def cut(entry: dict[str, Any], spoken: Sequence[tuple[str, float]]) -> tuple[float, float, list[float]]:
    """Seconds at which the utterance begins and ends in its file, and the ends of silence and symbols from there on."""
    begin = max(0.0, entry["start"] - SILENCE_BEFORE)
    ends = [end for symbol, end in spoken if symbol != BOUNDARY]
    last_sound = ends[-2] if len(ends) > 1 else ends[-1]
    end = min(entry["seconds"], max(last_sound, min(ends[-1], last_sound + SILENCE_AFTER)))
    return begin, end, [max(0.0, min(moment, end) - begin) for moment in (entry["start"], *ends)]


@torch.no_grad()
def collect(folders: Sequence[tuple[str, Path]], tokenizer: AcousticTokenizer) -> tuple[SpeechCorpus, int]:
    """Encode all sentences of (group, folder) pairs whose words are found in their phones.

    Also the number of those that are not. Raises InputError: no manifest.
    """
    pronounce, config = EnglishPronouncer(), tokenizer.config
    utterances: list[Utterance] = []
    latents: list[np.ndarray] = []
    start, skipped = 0, 0
    for group, folder in folders:
        for entry in read_manifest(folder):
            spoken = align_sentence(entry, pronounce)
            if spoken is None or not 0.5 <= entry["seconds"] <= MAX_SECONDS:
                skipped += 1
                continue
            begin, end, ends = cut(entry, spoken)
            samples = read(SoundFile(folder / entry["file"]), config.sample_rate, max_seconds=2 * MAX_SECONDS)
            samples = samples[round(begin * config.sample_rate) : round(end * config.sample_rate)]
            gain = 10 ** (TARGET_DBFS / 20) / max(float(np.sqrt(np.square(samples).mean())), 1e-4)
            latents_FD = tokenizer.encode(torch.from_numpy(samples * np.float32(gain))[None, None])[0]
            length = len(latents_FD)
            frames = durations(ends, length, config.frame_rate)
            symbols = [symbol for symbol, _ in spoken]
            utterances.append(Utterance(group, entry["voice"], entry["text"], start, length, symbols, frames))
            latents.append(latents_FD.numpy().astype(np.float16))
            start += length
    return SpeechCorpus(tuple(utterances), np.concatenate(latents)), skipped


def save(corpus: SpeechCorpus, path: Path) -> None:
    """Write ``PATH.npz``."""
    corpus_file.save(path, corpus.utterances, corpus.latents_ND)


def load(path: Path) -> SpeechCorpus:
    """Read what :func:`save` wrote. Raises InputError."""
    return SpeechCorpus(*corpus_file.load(path, Utterance))
