"""Training audio in memory: folders of files -> 16-bit samples, split by text, cut into random crops.

A folder with a ``manifest.jsonl`` (see ``synthesize``) has texts; elsewhere the file's name inside the folder stands
for the text, as in Asterisk's prompts, where all languages say the same under one name.

Shape suffixes: B batch, T samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core.errors import InputError
from torch import Tensor

from multiway_speech import corpus_file
from multiway_speech.audio import TARGET_DBFS, SoundFile, read
from multiway_speech.speech_tokenizer.synthesize import MANIFEST, read_manifest

RATE = 16_000
HELD_OUT_OF = 20
"""One text in so many is held out of the training."""
SUFFIXES = frozenset({".flac", ".g722", ".mp3", ".ogg", ".wav"})
MAX_SECONDS = 60.0


@dataclass(frozen=True)
class Clip:
    """A recording: its group (a voice or a folder), the key of what is said, and where its samples lie."""

    group: str
    key: str
    start: int
    length: int
    rms: float

    @property
    def held_out(self) -> bool:
        """Whether this text is kept for evaluation: decided by a hash of the text alone, for all voices alike."""
        digest = hashlib.blake2b(self.key.lower().encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") % HELD_OUT_OF == 0


@dataclass(frozen=True)
class Corpus:
    """Clips and all their samples, int16."""

    clips: tuple[Clip, ...]
    samples: np.ndarray

    def waveform(self, clip: Clip) -> np.ndarray:
        """Float32 (T,) at :data:`TARGET_DBFS`."""
        samples = self.samples[clip.start : clip.start + clip.length].astype(np.float32) / 32768
        return samples * (10 ** (TARGET_DBFS / 20) / max(clip.rms, 1e-4))

    def part(self, *, held_out: bool) -> tuple[Clip, ...]:
        return tuple(clip for clip in self.clips if clip.held_out == held_out)


def collect(folders: Sequence[tuple[str, Path]]) -> Corpus:
    """Read every sound file of (group, folder) pairs. Raises InputError: no such folder, nothing in it."""
    clips: list[Clip] = []
    samples: list[np.ndarray] = []
    start = 0
    for group, folder in folders:
        found = _files(folder)
        if not found:
            raise InputError(
                f"{folder}: no sound files; expected a folder with {', '.join(sorted(SUFFIXES))} files"
            )
        for file, key in found:
            waveform = read(SoundFile(file), RATE, max_seconds=MAX_SECONDS * 10)[: int(MAX_SECONDS * RATE)]
            rms = float(np.sqrt(np.square(waveform, dtype=np.float64).mean())) if len(waveform) else 0.0
            if rms < 1e-3:  # silence between prompts
                continue
            clips.append(Clip(group, key, start, len(waveform), rms))
            samples.append((waveform * 32767).round().clip(-32768, 32767).astype(np.int16))
            start += len(waveform)
    return Corpus(tuple(clips), np.concatenate(samples))


def _files(folder: Path) -> list[tuple[Path, str]]:
    if (folder / MANIFEST).is_file():
        return [(folder / entry["file"], entry["text"]) for entry in read_manifest(folder)]
    files = sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.stat().st_size)
    return [(file, file.relative_to(folder).with_suffix("").as_posix()) for file in files]


def save(corpus: Corpus, path: Path) -> None:
    """Write ``PATH.npz``."""
    corpus_file.save(path, corpus.clips, corpus.samples)


def load(path: Path) -> Corpus:
    """Read what :func:`save` wrote. Raises InputError."""
    return Corpus(*corpus_file.load(path, Clip))


@dataclass(frozen=True)
class Crops:
    """Random crops of the clips of a corpus that are not held out: a batch source of the trainer.

    A group is drawn by its weight (1 if not given), a clip by its length, then a place in it and a gain.
    """

    corpus: Corpus
    batch_size: int
    length: int
    weights: dict[str, float]
    seed: int = 0

    def __post_init__(self) -> None:
        groups: dict[str, list[Clip]] = {}
        for clip in self.corpus.part(held_out=False):
            groups.setdefault(clip.group, []).append(clip)
        unknown = sorted(self.weights.keys() - groups.keys())
        if unknown:
            raise InputError(f"weights for {', '.join(unknown)}; the corpus has {', '.join(sorted(groups))}")
        chances = np.array([self.weights.get(group, 1.0) for group in groups])
        object.__setattr__(self, "_chances", chances / chances.sum())
        object.__setattr__(self, "_groups", list(groups.values()))
        ends = [np.cumsum([clip.length for clip in clips]) for clips in groups.values()]
        object.__setattr__(self, "_ends", ends)

    def __call__(self, step: int, shard: int, num_shards: int) -> Tensor:
        """(B, 1, T) float32."""
        rng = np.random.default_rng((self.seed, step, shard))
        batch_BT = np.zeros((self.batch_size, self.length), dtype=np.float32)
        for row in batch_BT:
            group = rng.choice(len(self._groups), p=self._chances)  # type: ignore[attr-defined]
            ends = self._ends[group]  # type: ignore[attr-defined]
            place = rng.integers(ends[-1])
            clip = self._groups[group][np.searchsorted(ends, place, side="right")]  # type: ignore[attr-defined]
            waveform = self.corpus.waveform(clip)
            at = rng.integers(max(1, len(waveform) - self.length + 1))
            crop = waveform[at : at + self.length] * 10 ** (rng.uniform(-8, 4) / 20)
            row[: len(crop)] = crop
        return torch.from_numpy(batch_BT)[:, None]
