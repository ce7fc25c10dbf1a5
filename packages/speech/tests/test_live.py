"""Live transcription: words while they are spoken, segments behind pauses, bounded memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from multiway_speech.asr_cascade.live import LONGEST, LiveTranscriber, Partial
from multiway_speech.asr_cascade.pipeline import CascadePipeline
from multiway_speech.asr_cascade.recognizers import load_bundled, load_speaker
from multiway_speech.asr_cascade.voice_activity import RATE, Span, VoiceActivity
from multiway_speech.audio import SoundFile, read
from multiway_speech.result import Segment
from multiway_speech.vibevoice_asr.whisper import Word

DIALOGUE = Path(__file__).resolve().parents[3] / "examples" / "dialogue.flac"


class Counting:
    """Says how long what it hears is: a word for each half second."""

    name, language = "counting", "en"

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def words(self, samples_T: np.ndarray, context: str) -> list[Word]:
        self.lengths.append(len(samples_T))
        return [Word(f"w{k}", k / 2, (k + 1) / 2) for k in range(int(2 * len(samples_T) / RATE))]


@pytest.fixture(scope="module")
def dialogue() -> np.ndarray:
    return read(SoundFile(DIALOGUE), RATE, max_seconds=60)


@pytest.fixture
def pipeline() -> CascadePipeline:
    return CascadePipeline(Counting(), load_speaker())


def fed(live: LiveTranscriber, samples: np.ndarray, piece: int = RATE // 5) -> list[Partial | Segment]:
    found = [e for at in range(0, len(samples), piece) for e in live.feed(samples[at : at + piece])]
    return [*found, *live.finish()]


def test_words_come_while_they_are_spoken_and_segments_behind_them(pipeline, dialogue) -> None:
    events = fed(LiveTranscriber(pipeline), dialogue)
    segments = [event for event in events if isinstance(event, Segment)]
    partials = [event for event in events if isinstance(event, Partial)]
    assert len(segments) >= 3
    assert len(partials) >= 3
    assert isinstance(events[0], Partial)
    assert all(one.start <= other.start + 1e-6 for one, other in pairwise(segments))
    assert segments[-1].end <= len(dialogue) / RATE + 0.01


def test_the_segments_are_those_of_the_spans(pipeline, dialogue) -> None:
    silence = np.zeros(2 * RATE, dtype=np.float32)
    segments = [
        e
        for e in fed(LiveTranscriber(pipeline), np.concatenate([dialogue, silence]))
        if isinstance(e, Segment)
    ]
    activity = VoiceActivity()
    spans = [*activity.feed(dialogue), *activity.feed(silence), *activity.finish()]
    for segment in segments:
        assert any(span.start - 0.4 <= segment.start <= segment.end <= span.end + 0.01 for span in spans)


def test_silence_gives_nothing_and_is_forgotten(pipeline) -> None:
    live = LiveTranscriber(pipeline)
    assert fed(live, np.zeros(30 * RATE, dtype=np.float32)) == []
    assert len(live._kept_T) < RATE
    assert pipeline.recognizer.lengths == []


def test_speech_without_a_pause_is_cut(pipeline, dialogue, monkeypatch) -> None:
    class Always(VoiceActivity):
        def _step(self, score: float) -> Span | None:
            return super()._step(1.0)

    monkeypatch.setattr("multiway_speech.asr_cascade.live.VoiceActivity", Always)
    live = LiveTranscriber(pipeline)
    fed(live, np.concatenate([dialogue] * 6))
    assert max(pipeline.recognizer.lengths) <= (LONGEST + 2) * RATE
    assert len(live._kept_T) <= (LONGEST + 2) * RATE


def test_the_encoder_of_voices_is_read_alone() -> None:
    alone, (_, together) = load_speaker(), load_bundled()
    for name, tensor in together.state_dict().items():
        assert (alone.state_dict()[name] == tensor).all(), name
