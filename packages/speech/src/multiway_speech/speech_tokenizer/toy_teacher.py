"""A toy synthesizer without any dependency: each phone is a chord. The ``smoke`` presets train on it offline.

It is used like the synthesizers of :mod:`~multiway_speech.speech_tokenizer.teachers`, and tells times as they do.
"""

from __future__ import annotations

import zlib

import numpy as np

from multiway_speech.pronunciation.align import IPA_OF
from multiway_speech.pronunciation.english import EnglishPronouncer
from multiway_speech.pronunciation.phones import BOUNDARY, MARKS, bare, is_vowel
from multiway_speech.speech_tokenizer.teachers import SynthesizedSpeech

VOICES = ("low", "middle", "high")
_SILENCE = 0.1


class ToyTeacher:
    """Chords at 16 kHz, in three voices."""

    rate = 16_000

    def __init__(self) -> None:
        self._pronounce = EnglishPronouncer()

    def __call__(self, text: str, voice: str) -> SynthesizedSpeech:
        """A sentence. ``voice``: one of :data:`VOICES`."""
        symbols: list[str] = []
        parts = [np.zeros(round(_SILENCE * self.rate), dtype=np.float32)]
        ends: list[float] = []
        pitch = 110.0 * 1.4 ** VOICES.index(voice)
        for symbol in self._pronounce(text):
            if symbol == BOUNDARY:
                letter, seconds = " ", 0.0
            elif symbol in MARKS:
                letter, seconds = symbol, 0.2
            else:
                letter, seconds = IPA_OF[bare(symbol)], 0.12 if is_vowel(symbol) else 0.08
            time = np.arange(round(seconds * self.rate)) / self.rate
            seed = zlib.crc32(letter.encode())
            chord = sum(np.sin(2 * np.pi * pitch * (1 + (seed >> shift) % 23) * time) for shift in (0, 8, 16))
            loudness = 0.0 if letter in MARKS else 0.1
            parts.append((loudness * np.hanning(len(time)) * chord).astype(np.float32))
            symbols.append(letter)
            ends.append(sum(map(len, parts)) / self.rate)
        return SynthesizedSpeech(np.concatenate(parts), symbols, ends, _SILENCE)
