"""Long recordings in parts: cut at pauses, whole, and the same speaker in every part."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_speech.audio import SoundArray
from multiway_speech.result import Segment, Transcript
from multiway_speech.speakers import RATE
from multiway_speech.vibevoice_asr.pipeline import TranscriptionOptions
from multiway_speech.windows import MIN_PART_SECONDS, split_at_pauses, stream_windows

from packages.speech.tests.test_speakers import HIGH, LOW, voice


@pytest.mark.parametrize("seconds", [0.5, 9.9, 10.0, 10.5, 11.0, 11.2, 34.7])
def test_parts_are_the_whole(seconds: float) -> None:
    samples = np.random.default_rng(0).normal(size=int(seconds * RATE)).astype(np.float32)
    found = list(split_at_pauses(SoundArray(samples, RATE), 10.0))
    np.testing.assert_array_equal(np.concatenate([part for _, part in found]), samples)
    assert [start for start, _ in found] == pytest.approx(
        np.cumsum([0] + [len(p) / RATE for _, p in found[:-1]])
    )
    assert all(len(part) <= 10 * RATE for _, part in found)
    assert len(found) == 1 or len(found[-1][1]) >= MIN_PART_SECONDS * RATE


def test_cuts_are_in_pauses() -> None:
    samples = np.random.default_rng(0).normal(size=26 * RATE).astype(np.float32)
    for pause in (7.0, 14.5):
        samples[int(pause * RATE) : int((pause + 0.5) * RATE)] *= 0.01
    starts = [start for start, _ in split_at_pauses(SoundArray(samples, RATE), 10.0)]
    assert 7.0 < starts[1] < 7.5
    assert 14.5 < starts[2] < 15.0


class Scripted:
    """In place of a recognizer: each part's transcript is tracker."""

    name = "scripted"

    def __init__(self, *turns: list[tuple[float, float, int | None]]) -> None:
        self.turns = list(turns)

    def stream(self, sound, options):
        segments = tuple(Segment(start, end, speaker, "word") for start, end, speaker in self.turns.pop(0))
        yield from segments
        yield Transcript(sound.name, self.name, 10.0, segments, problems=("odd",))


def conversation() -> SoundArray:
    """Low, high, low; then high, low; 4 s each with a pause at 12 s."""
    waves = [voice(4.0, formants, seed) for seed, formants in enumerate((LOW, HIGH, LOW, HIGH, LOW))]
    samples = np.concatenate([*waves[:3], np.zeros(RATE), *waves[3:]])
    return SoundArray(samples, RATE, "talk.wav")


FIRST = [(0.0, 3.9, 0), (4.1, 7.9, 1), (8.1, 11.9, 0)]
SECOND = [(1.1, 4.7, 0), (5.1, 8.7, 1), (8.7, 8.8, None)]  # from 12.1 s on


def test_a_speaker_keeps_the_number() -> None:
    heard: list[float] = []
    events = stream_windows(
        Scripted(FIRST, SECOND), conversation(), TranscriptionOptions(), 14.0, on_heard=heard.append
    )
    *segments, transcript = events
    assert [s.speaker for s in segments] == [
        0,
        1,
        0,
        1,
        0,
        None,
    ]  # in the second part the high voice comes first
    assert segments[3].start == pytest.approx(12.1 + 1.1, abs=0.05)
    assert transcript.segments == tuple(segments)
    assert (transcript.source, transcript.duration, transcript.model) == ("talk.wav", 21.0, "scripted")
    assert transcript.problems[0] == "from 0:00:00.00: odd"
    assert len(transcript.problems) == 2


def test_at_most_so_many_speakers() -> None:
    events = stream_windows(
        Scripted(FIRST, SECOND), conversation(), TranscriptionOptions(), 14.0, max_speakers=1
    )
    assert {s.speaker for s in list(events)[-1].segments} == {0, None}


def test_a_new_voice_is_a_new_speaker() -> None:
    waves = [voice(4.0, LOW, 0), np.zeros(RATE), voice(4.0, HIGH, 1)]
    script = Scripted([(0.0, 4.0, 0)], [(0.5, 4.5, 0)])
    *segments, _ = stream_windows(
        script, SoundArray(np.concatenate(waves), RATE), TranscriptionOptions(), 6.0
    )
    assert [s.speaker for s in segments] == [0, 1]
