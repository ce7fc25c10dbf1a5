"""Training speech for a model that reads along: latents of the codec, and how many frames each phone lasts.

    python -m multiway_speech.vibevoice.corpus --out tts.npz kokoro=made/kokoro joe=made/joe

The folders are those that ``speech_tokenizer.synthesize`` writes: its manifests tell when each phone was said.

Shape suffixes: N frames of all clips, F frames of a clip, D latent size, T samples.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_speech.audio import TARGET_DBFS, SoundFile, read
from multiway_speech.pronunciation.align import align_sentence
from multiway_speech.pronunciation.english import EnglishPronouncer
from multiway_speech.pronunciation.phones import BOUNDARY
from multiway_speech.speech_tokenizer import folder as tokenizer_folder
from multiway_speech.speech_tokenizer.corpus import Clip
from multiway_speech.speech_tokenizer.model import AcousticTokenizer

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
    symbols: list[str]
    frames: list[int]

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
        manifest = folder / "manifest.jsonl"
        if not manifest.is_file():
            raise InputError(
                f"{folder}: no manifest.jsonl; make it with multiway_speech.speech_tokenizer.synthesize"
            )
        for line in manifest.read_text("utf-8").splitlines():
            entry = json.loads(line)
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
    index = json.dumps([list(asdict(utterance).values()) for utterance in corpus.utterances])
    np.savez(path, latents=corpus.latents_ND, index=np.frombuffer(index.encode(), dtype=np.uint8))


def load(path: Path) -> SpeechCorpus:
    """Read what :func:`save` wrote. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with multiway_speech.vibevoice.corpus")
    with np.load(path, allow_pickle=False) as arrays:
        index = json.loads(arrays["index"].tobytes().decode())
        names = [field.name for field in fields(Utterance)]
        items = tuple(Utterance(**dict(zip(names, entry, strict=True))) for entry in index)
        return SpeechCorpus(items, arrays["latents"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Encode spoken sentences for the training of a speaking model."
    )
    parser.add_argument("folders", nargs="+", metavar="GROUP=FOLDER")
    parser.add_argument("--tokenizer", default="bundled:codec-tiny")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    pairs = [(group, Path(folder)) for group, _, folder in (item.partition("=") for item in options.folders)]
    tokenizer = tokenizer_folder.load(options.tokenizer)
    corpus, skipped = collect(pairs, tokenizer)
    save(corpus, options.out)
    for voice in dict.fromkeys(item.voice for item in corpus.utterances):
        for held_out in (False, True):
            items = [item for item in corpus.part(held_out=held_out) if item.voice == voice]
            minutes = sum(item.length for item in items) / tokenizer.config.frame_rate / 60
            print(f"{voice}: {len(items)} sentences, {minutes:.1f} min{' held out' if held_out else ''}")
    print(f"{skipped} sentences without an alignment left out")


if __name__ == "__main__":
    main()
