"""The corpus of utterances (text, speaker, phones with times) that conversations are mixed from.

Shape suffixes: T samples.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from multiway_core.errors import InputError

from multiway_speech import corpus_file
from multiway_speech.audio import SoundFile, read
from multiway_speech.speech_tokenizer.synthesize import read_manifest
from multiway_speech.vibevoice_asr.sentences import DIGITS, is_held_out

RATE = 16_000
LONGEST = 12.0
"""Seconds of an utterance; longer ones are left out."""
FIRST_TRAINING_DIGIT = 5
"""Recordings of the Free Spoken Digit Dataset with a smaller number are its test set."""


@dataclass(frozen=True)
class Utterance:
    """A sentence of one speaker.

    Attributes:
        voice: who speaks.
        text: what is said.
        start, length: where its samples lie in the corpus; silence at its ends is already cut off.
        held_out: whether the text (or the recording, of digits) is kept for evaluation.
        phones: phones (:mod:`phones`), where a synthesizer told them.
        ends: seconds from the first sample to the end of each phone.
    """

    voice: str
    text: str
    start: int
    length: int
    held_out: bool
    phones: tuple[str, ...] = ()
    ends: tuple[float, ...] = ()

    @property
    def seconds(self) -> float:
        return self.length / RATE


@dataclass(frozen=True)
class Corpus:
    """Utterances and all their samples, int16."""

    utterances: tuple[Utterance, ...]
    samples: np.ndarray

    def waveform(self, utterance: Utterance) -> np.ndarray:
        """Float32 (T,), full scale at 1."""
        part = self.samples[utterance.start : utterance.start + utterance.length]
        return part.astype(np.float32) / 32768


def clean(text: str) -> str:
    """A transcript as it is taught: quotation marks and doubled marks left out, single digits in words."""
    text = re.sub(r"``|''|\"", "", text)
    text = re.sub(r"(?<![\w.])(\d)(?![\w])", lambda found: DIGITS[int(found[1])], text)
    text = re.sub(r"\.{2,}", ".", text)
    text = re.sub(r"\s+([.,?!;:])", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


def from_manifest(folder: Path) -> Iterator[tuple[Utterance, np.ndarray]]:
    """What ``synthesize`` made."""
    for entry in read_manifest(folder):
        text = clean(entry["text"])
        if not entry["ends"] or re.search(r"\d", text):
            continue
        waveform = read(SoundFile(folder / entry["file"]), RATE, max_seconds=60)
        symbols, ends = list(entry["symbols"]), list(entry["ends"])
        while len(ends) > 1 and symbols[-1] in " .,?!;:":  # what a synthesizer spends on a mark is silence
            symbols.pop()
            ends.pop()
        first = int(entry["start"] * RATE)
        last = min(len(waveform), int((ends[-1] + 0.06) * RATE))
        phones, moved = spread(symbols, [end - entry["start"] for end in ends])
        yield (
            Utterance(entry["voice"], text, 0, last - first, is_held_out(text), phones, moved),
            waveform[first:last],
        )


def from_asterisk(folder: Path, texts: Path) -> Iterator[tuple[Utterance, np.ndarray]]:
    """Asterisk's prompts with their ``NAME: TEXT`` list."""
    for line in gzip.decompress(texts.read_bytes()).decode("utf-8", "replace").splitlines():
        name, _, said = line.partition(":")
        text, file = clean(said), folder / f"{name.strip()}.g722"
        if not text or re.search(r"[\d\[\]()<>]", text) or not file.is_file() or not file.stat().st_size:
            continue
        yield from _recorded("allison", text, file, is_held_out(text))


def from_digits(folder: Path) -> Iterator[tuple[Utterance, np.ndarray]]:
    """The Free Spoken Digit Dataset, files ``DIGIT_SPEAKER_NUMBER.wav``."""
    for file in sorted(folder.glob("?_*_*.wav")):
        digit, speaker, number = file.stem.split("_")
        text = DIGITS[int(digit)].capitalize() + "."
        yield from _recorded(f"digits-{speaker}", text, file, int(number) < FIRST_TRAINING_DIGIT)


def _recorded(voice: str, text: str, file: Path, held_out: bool) -> Iterator[tuple[Utterance, np.ndarray]]:
    waveform = speech_part(read(SoundFile(file), RATE, max_seconds=600)[: int(LONGEST * 2 * RATE)])
    if len(waveform):
        yield Utterance(voice, text, 0, len(waveform), held_out), waveform


def speech_part(waveform: np.ndarray, floor_db: float = 35.0) -> np.ndarray:
    """From the first to the last 10 ms that are at most ``floor_db`` below the loudest."""
    hop = RATE // 100
    windows = waveform[: len(waveform) // hop * hop].reshape(-1, hop)
    if not len(windows):
        return waveform[:0]
    level = 10 * np.log10(np.square(windows, dtype=np.float64).mean(axis=1) + 1e-10)
    loud = np.flatnonzero(level > max(level.max() - floor_db, -65.0))
    return waveform[max(0, loud[0] - 1) * hop : (loud[-1] + 2) * hop] if len(loud) else waveform[:0]


_SPLIT = {
    "A": "eɪ", "I": "aɪ", "W": "aʊ", "O": "oʊ", "Q": "oʊ", "Y": "ɔɪ", "ʤ": "dʒ", "ʧ": "tʃ", "ɚ": "əɹ", "ᵊ": "ə",
    "ɐ": "ə", "ᵻ": "ɪ", "g": "ɡ", "r": "ɹ", "ɜ": "ɜ",
}  # fmt: skip
_NO_PHONE = frozenset("ˈˌː ")
_MARKS = frozenset(".,?!;:—…-\"'()")
SILENCE = "_"


def spread(symbols: Sequence[str], ends: Sequence[float]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Phones that both synthesizers share, and their ends: marks of stress, length and words go to neighbours."""
    phones: list[str] = []
    moved: list[float] = []
    begin = 0.0
    for symbol, end in zip(symbols, ends, strict=True):
        if symbol in _NO_PHONE:
            if symbol in "ː " and moved:
                moved[-1] = begin = end
            continue
        parts = [SILENCE] if symbol in _MARKS else _SPLIT.get(symbol, symbol)
        for number, part in enumerate(parts, 1):
            phones.append(part)
            moved.append(round(begin + (end - begin) * number / len(parts), 4))
        begin = end
    return tuple(phones), tuple(moved)


def collect(sources: Sequence[Iterator[tuple[Utterance, np.ndarray]]]) -> Corpus:
    """All utterances of several sources. Raises InputError if there are none."""
    utterances: list[Utterance] = []
    samples: list[np.ndarray] = []
    start = 0
    for source in sources:
        for utterance, waveform in source:
            if not 0.2 <= utterance.seconds <= LONGEST or np.abs(waveform).max() < 0.01:
                continue
            utterances.append(replace(utterance, start=start))
            samples.append((waveform * 32767).round().clip(-32768, 32767).astype(np.int16))
            start += len(waveform)
    if not utterances:
        raise InputError("no utterances were found")
    return Corpus(tuple(utterances), np.concatenate(samples))


def save(corpus: Corpus, path: Path) -> None:
    """Write ``PATH.npz``."""
    corpus_file.save(path, corpus.utterances, corpus.samples)


def load(path: Path) -> Corpus:
    """Read what :func:`save` wrote. Raises InputError."""
    return Corpus(*corpus_file.load(path, Utterance))


def sources_of(data: Sequence[str]) -> list[Iterator[tuple[Utterance, np.ndarray]]]:
    """Readers for ``FOLDER`` (of ``multiway-tts data synthesize``), ``asterisk=FOLDER`` and ``digits=FOLDER``.

    A folder of Asterisk's prompts also holds their list of texts, ``*.txt.gz``. Raises InputError.
    """
    found: list[Iterator[tuple[Utterance, np.ndarray]]] = []
    for item in data:
        kind, sign, name = item.partition("=")
        folder = Path(name if sign else item)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        if kind == "asterisk" and sign:
            texts = sorted(folder.glob("*.txt.gz"))
            if not texts:
                raise InputError(f"{folder}: no list of the prompts' texts (*.txt.gz)")
            found.append(from_asterisk(folder, texts[0]))
        elif kind == "digits" and sign:
            found.append(from_digits(folder))
        else:
            found.append(from_manifest(folder))
    return found
