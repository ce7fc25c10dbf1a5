"""A recognizer that took one voice for two is corrected by how the voices sound."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_speech.audio import SoundArray
from multiway_speech.result import Segment, Transcript
from multiway_speech.speakers import RATE, limit_speakers


def voice(seconds: float, formants: tuple[float, ...], seed: int) -> np.ndarray:
    """Noise with peaks at these frequencies."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=int(seconds * RATE)))
    frequency = np.fft.rfftfreq(int(seconds * RATE), 1 / RATE)
    shape = sum(np.exp(-(((frequency - formant) / 200) ** 2)) for formant in formants)
    wave = np.fft.irfft(spectrum * shape)
    return wave / np.abs(wave).max() * 0.3


LOW, MIDDLE, HIGH = (400.0, 1200.0), (600.0, 1900.0), (900.0, 2800.0)


def talk(*turns: tuple[tuple[float, ...], int]) -> tuple[SoundArray, Transcript]:
    """A second of each voice, with the speaker that was heard."""
    wave = np.concatenate([voice(1.0, formants, seed) for seed, (formants, _) in enumerate(turns)])
    segments = tuple(Segment(i, i + 1, speaker, "word") for i, (_, speaker) in enumerate(turns))
    return SoundArray(wave, RATE), Transcript("a.wav", "m", float(len(turns)), segments)


def speakers(transcript: Transcript) -> list[int | None]:
    return [segment.speaker for segment in transcript.segments]


def test_the_most_alike_become_one() -> None:
    sound, transcript = talk((LOW, 0), (HIGH, 1), (MIDDLE, 2), (LOW, 3), (HIGH, 4), (MIDDLE, 2))
    assert speakers(limit_speakers(transcript, sound, 4)) in ([0, 1, 2, 0, 3, 2], [0, 1, 2, 3, 1, 2])
    limited = limit_speakers(transcript, sound, 3)
    assert speakers(limited) == [0, 1, 2, 0, 1, 2]
    assert [s.text for s in limited.segments] == ["word"] * 6
    assert speakers(limit_speakers(transcript, sound, 1)) == [0] * 6
    assert limit_speakers(transcript, sound, 5) is transcript


def test_numbers_follow_the_first_words_and_nobody_stays_nobody() -> None:
    sound, transcript = talk((HIGH, 7), (LOW, None), (LOW, 3), (HIGH, 1))  # type: ignore[arg-type]
    assert speakers(limit_speakers(transcript, sound, 2)) == [0, None, 1, 0]


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_speakers_who_are_not_heard_are_merged_too(seconds: float) -> None:
    segments = (Segment(0, seconds, 0, "a"), Segment(0, 0, 1, "b"), Segment(5, 5, 2, "c"))
    transcript = Transcript("a.wav", "m", 5.0, segments)
    sound = SoundArray(np.zeros(int(0.02 * RATE) + 1), RATE)
    assert len(limit_speakers(transcript, sound, 2).speakers) == 2
