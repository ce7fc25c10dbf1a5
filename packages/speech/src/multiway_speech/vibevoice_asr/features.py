"""Acoustic features of mixed conversations: encoded once, read from disk in training.

A part holds ``frames.npy``, float16 (frames, 64), ``labels.npy``, uint8 (frames, 2), the phone at the middle of
each half of a frame, and ``index.jsonl`` with a conversation a line.

Shape suffixes: T samples, F frames, D numbers of a frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from multiway_core.errors import InputError
from torch import Tensor, nn

from multiway_speech.speech_tokenizer import folder
from multiway_speech.vibevoice_asr.corpus import SILENCE
from multiway_speech.vibevoice_asr.mixtures import Mixture, Segment

PHONES = (SILENCE, *"abdefhijklmnopstuvwzæðŋɑɔəɛɜɡɪɹʃʊʌʒθɾɫʔ", "?")
"""The last stands for all others."""
UNKNOWN = 255
"""Label of frames whose phone nobody knows."""
_IDS = {phone: number for number, phone in enumerate(PHONES)}
COLUMN_SECONDS = 0.02
ACOUSTIC = 64
"""Numbers of a frame."""
FRAMES = 2
"""Frames come in pairs: that many stand at one position of the decoder."""


@dataclass(frozen=True)
class Entry:
    """A conversation: where its frames lie, and what is to be written about it."""

    start: int
    frames: int
    seconds: float
    segments: tuple[Segment, ...]
    context: str = ""
    names: tuple[str, ...] = ()
    voices: tuple[str, ...] = ()


class FeatureExtractor(nn.Module):
    """The frozen acoustic encoder, as :class:`~multiway_speech.vibevoice_asr.model.VibeVoiceAsr` has it."""

    def __init__(self, codec: str | Path) -> None:
        super().__init__()
        tokenizer = folder.load(codec)
        self.config = tokenizer.config
        self.acoustic = tokenizer.encoder

    @torch.no_grad()
    def forward(self, waveform_T: np.ndarray) -> Tensor:
        """Frames (F, D) of a waveform at the model's loudness, the last one filled up with silence."""
        samples = torch.from_numpy(waveform_T)
        whole_11T = nn.functional.pad(samples, (0, -len(samples) % (FRAMES * self.config.hop)))[None, None]
        frames_FD: Tensor = self.acoustic(whole_11T)[0].float()
        return frames_FD


def label_columns(mixture: Mixture, frames: int) -> np.ndarray:
    """Uint8 (F, 2): phones at the middles of a frame's two columns."""
    labels = np.zeros(2 * frames, dtype=np.uint8)
    if not mixture.phones:
        labels[:] = UNKNOWN
    middles = (np.arange(2 * frames) + 0.5) * COLUMN_SECONDS
    covered = np.zeros(2 * frames, dtype=bool)
    for begin, end, phone in mixture.phones:
        first, last = np.searchsorted(middles, (begin, end))
        labels[first:last] = _IDS.get(phone, len(PHONES) - 1)
        covered[first:last] = True
    for start, end, *_ in mixture.segments:
        first, last = np.searchsorted(middles, (start, end))
        if not covered[first:last].any():
            labels[first:last] = UNKNOWN
    return labels.reshape(frames, 2)


class Features:
    """Conversations of one or several folders, read as needed."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.entries: list[Entry] = []
        self._frames: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._of: list[int] = []
        for number, path in enumerate(folders):
            if not (path / "index.jsonl").is_file():
                raise InputError(f"{path}: no index.jsonl in it: no conversations")
            self._frames.append(np.load(path / "frames.npy", mmap_mode="r"))
            self._labels.append(np.load(path / "labels.npy", mmap_mode="r"))
            for line in (path / "index.jsonl").read_text("utf-8").splitlines():
                fields = json.loads(line)
                fields["segments"] = tuple(tuple(segment) for segment in fields["segments"])
                self.entries.append(Entry(**fields))
                self._of.append(number)

    def frames(self, place: int) -> np.ndarray:
        """Float16 (F, D) of one conversation."""
        entry = self.entries[place]
        return self._frames[self._of[place]][entry.start : entry.start + entry.frames]

    def labels(self, place: int) -> np.ndarray:
        """Uint8 (F, 2) of one conversation."""
        entry = self.entries[place]
        return self._labels[self._of[place]][entry.start : entry.start + entry.frames]


def write(path: Path, mixtures: Iterator[Mixture], extractor: FeatureExtractor) -> int:
    """Encode mixtures into a folder; returns the frames. The index, written last, makes it whole."""
    path.mkdir(parents=True, exist_ok=True)
    rows: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    entries: list[Entry] = []
    start = 0
    for mixture in mixtures:
        with torch.autocast("cpu", torch.bfloat16):
            frames_FD = extractor(mixture.waveform)
        rows.append(frames_FD.numpy().astype(np.float16))
        labels.append(label_columns(mixture, len(frames_FD)))
        entries.append(
            Entry(
                start,
                len(frames_FD),
                round(mixture.seconds, 3),
                mixture.segments,
                mixture.context,
                mixture.names,
                mixture.voices,
            )
        )
        start += len(frames_FD)
    np.save(path / "frames.npy", np.concatenate(rows))
    np.save(path / "labels.npy", np.concatenate(labels))
    lines = [json.dumps(asdict(entry), ensure_ascii=False) for entry in entries]
    (path / "index.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return start
