"""The cascade of Silero, Whisper and GE2E: each part on planted input, and the whole on speech and on what is none."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError, ModelNotFoundError
from multiway_speech.asr_cascade import diarization, pipeline, recognizers
from multiway_speech.asr_cascade.diarization import Turn, cluster
from multiway_speech.asr_cascade.pipeline import CascadePipeline, segments_of, stretches
from multiway_speech.asr_cascade.voice_activity import RATE, Span, VoiceActivity
from multiway_speech.audio import SoundArray, SoundFile, read
from multiway_speech.recognition import SpeechRecognizer
from multiway_speech.vibevoice_asr.pipeline import AsrPipeline
from multiway_speech.vibevoice_asr.whisper import Decoded, Word

DIALOGUE = Path(__file__).resolve().parents[3] / "examples" / "dialogue.flac"


@pytest.fixture(scope="module")
def cascade() -> CascadePipeline:
    return CascadePipeline.from_pretrained("bundled:whisper-tiny.en")


@pytest.fixture(scope="module")
def dialogue() -> np.ndarray:
    return read(SoundFile(DIALOGUE), RATE, max_seconds=60)


def spans_of(samples: np.ndarray, size: int) -> list[Span]:
    activity = VoiceActivity()
    found = [span for at in range(0, len(samples), size) for span in activity.feed(samples[at : at + size])]
    return [*found, *activity.finish()]


def test_spans_do_not_depend_on_the_pieces_and_are_those_of_the_package(dialogue) -> None:
    from silero_vad import get_speech_timestamps, load_silero_vad

    whole = spans_of(dialogue, len(dialogue))
    assert spans_of(dialogue, 1777) == whole
    theirs = get_speech_timestamps(
        torch.from_numpy(dialogue), load_silero_vad(), min_silence_duration_ms=300, speech_pad_ms=100
    )
    assert len(whole) == len(theirs) >= 3
    for span, peer in zip(whole, theirs, strict=True):
        assert abs(span.start - peer["start"] / RATE) < 0.15
        assert abs(span.end - peer["end"] / RATE) < 0.15
    assert all(one.end <= other.start for one, other in pairwise(whole))


def test_stretches_hold_the_sound_of_their_spans(dialogue) -> None:
    silence = np.zeros(5 * RATE, dtype=np.float32)
    recording = np.concatenate([silence, dialogue, silence, dialogue, *[dialogue] * 4])
    found = list(stretches(SoundArray(recording, RATE), 1.0))
    assert len(found) == 3
    for stretch in found:
        assert len(stretch.samples_T) <= recognizers.MAX_SECONDS * RATE
        first = round(stretch.start * RATE)
        np.testing.assert_array_equal(stretch.samples_T, recording[first : first + len(stretch.samples_T)])
        assert stretch.start <= stretch.spans[0].start
        assert stretch.spans[-1].end <= stretch.start + len(stretch.samples_T) / RATE + 1e-3
    heard = sum(span.end - span.start for stretch in found for span in stretch.spans)
    alone = sum(span.end - span.start for span in spans_of(dialogue, RATE))
    assert abs(heard - 6 * alone) < 0.1 * heard


def test_speech_without_a_pause_is_cut(dialogue, monkeypatch) -> None:
    class Always(VoiceActivity):
        def _step(self, score: float) -> Span | None:
            return super()._step(1.0)

    monkeypatch.setattr(pipeline, "VoiceActivity", Always)
    recording = np.concatenate([dialogue] * 7)
    found = list(stretches(SoundArray(recording, RATE), 1.0))
    assert 3 <= len(found) <= 5
    np.testing.assert_array_equal(np.concatenate([one.samples_T for one in found]), recording)


def voices(*labels: int, spread: float = 0.2) -> np.ndarray:
    """Embeddings around as many directions as there are labels."""
    generator = np.random.default_rng(0)
    centres = np.linalg.qr(generator.normal(size=(64, 8)))[0].T
    found = centres[list(labels)] + spread / 8 * generator.normal(size=(len(labels), 64))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("linked", [diarization.MAX_LINKED, 15])
def test_voices_are_told_apart_also_when_only_some_are_linked(linked, monkeypatch) -> None:
    monkeypatch.setattr(diarization, "MAX_LINKED", linked)
    labels = [0] * 10 + [1] * 12 + [0] * 5 + [2] * 9
    found = cluster(voices(*labels))
    assert len({(one, other) for one, other in zip(labels, found, strict=True)}) == 3


def test_a_short_oddity_is_no_speaker_and_a_maximum_holds() -> None:
    found = cluster(voices(0, 0, 0, 0, 3, 1, 1, 1, 1))
    assert len(set(found)) == 2
    assert len(set(cluster(voices(0, 0, 0, 1, 1, 1, 2, 2, 2), max_speakers=2))) == 2
    assert len(set(cluster(voices(0, 0, 0, 1, 1, 1), max_speakers=1))) == 1
    assert len(set(cluster(voices(0)))) == 1


def test_words_become_segments_of_one_speaker() -> None:
    turns = [Turn(0.0, 1.0, 0), Turn(1.0, 3.0, 1)]
    words = [
        Word("Yes.", 0.1, 0.4), Word("And", 0.8, 0.95), Word("no", 1.1, 1.3), Word("more", 2.6, 2.9),
        Word("late", 3.5, 3.9),
    ]  # fmt: skip
    found = segments_of(words, turns)
    assert [(one.speaker, one.text) for one in found] == [
        (0, "Yes."),
        (0, "And"),
        (1, "no"),
        (1, "more late"),
    ]
    assert (found[3].start, found[3].end) == (2.6, 3.9)
    assert [one.text for one in segments_of(words, [])] == ["Yes.", "And no", "more late"]


def test_who_says_what_in_the_example(cascade) -> None:
    *streamed, transcript = cascade.stream(DIALOGUE)
    assert [segment.speaker for segment in transcript.segments] == [0, 1, 0, 1]
    text = " ".join(segment.text for segment in transcript.segments)
    assert "Anna send the report" in text
    assert "tell David" in text
    assert " ".join(segment.text for segment in streamed) == text
    assert transcript.model == "bundled:whisper-tiny.en"
    assert transcript.language == "en"


@pytest.mark.parametrize("kind", ["silence", "noise", "hum", "melody", "clicks"])
def test_no_word_where_nobody_speaks(cascade, kind) -> None:
    generator, time = np.random.default_rng(1), np.arange(8 * RATE) / RATE
    sound = {
        "silence": np.zeros(len(time)),
        "noise": 0.1 * generator.normal(size=len(time)),
        "hum": 0.2 * np.sin(2 * np.pi * 50 * time),
        "melody": 0.3 * np.sin(2 * np.pi * 440 * 2 ** (np.floor(time * 2) % 8 / 12) * time),
        "clicks": (np.arange(len(time)) % 8000 < 8) * 0.9,
    }[kind]
    assert cascade(SoundArray(sound.astype(np.float32), RATE)).segments == ()


def test_what_is_improbable_or_a_loop_is_decoded_again_and_then_left_out(cascade, monkeypatch) -> None:
    asked: list[float] = []
    good, loop = [Word("fine", 0.5, 0.9)], [Word("thank you", 0.5, 0.9)] * 40
    answers = iter([Decoded(loop, -0.1), Decoded(good, -2.0), Decoded(good, -0.5)])

    def decode(waveform, samples, prompt, temperature):
        asked.append(temperature)
        return next(answers, Decoded(loop, -0.1))

    recognizer = recognizers.BundledWhisper("x", cascade.recognizer._network)
    monkeypatch.setattr(recognizer._network, "decode_window", decode)
    samples = np.zeros(RATE, dtype=np.float32)
    assert recognizer.words(samples, "") == [Word("fine", 0.25, 0.65)]
    assert asked == [0.0, 0.2, 0.4]
    assert recognizer.words(samples, "") == []
    assert asked[3:] == list(recognizers.TEMPERATURES)


def test_drawn_words_are_the_same_each_time_and_greedy_ones_are_the_likeliest(cascade, dialogue) -> None:
    network = cascade.recognizer._network
    wave = torch.nn.functional.pad(torch.from_numpy(dialogue[: 3 * RATE]), (0, 9 * RATE))
    greedy = network.decode_window(wave, 3 * RATE)
    assert greedy.words == network.window(wave, 3 * RATE)
    drawn = network.decode_window(wave, 3 * RATE, temperature=2.0)
    assert drawn == network.decode_window(wave, 3 * RATE, temperature=2.0)
    assert drawn.log_probability < greedy.log_probability < 0


def test_names_choose_the_system(tmp_path) -> None:
    assert isinstance(SpeechRecognizer.from_pretrained("bundled:asr-tiny"), AsrPipeline)
    with pytest.raises(InputError, match="runs on the CPU"):
        SpeechRecognizer.from_pretrained("bundled:whisper-tiny.en", dtype=torch.bfloat16)
    pytest.importorskip("faster_whisper")
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(ModelNotFoundError, match="not a Whisper model of CTranslate2's"):
        SpeechRecognizer.from_pretrained(str(tmp_path))


@pytest.mark.requires("faster_whisper", *recognizers.WHISPER_BASE)
def test_whisper_base_by_faster_whisper() -> None:
    transcript = SpeechRecognizer.from_pretrained("whisper-base")(DIALOGUE)
    assert {segment.speaker for segment in transcript.segments} == {0, 1}
    assert "report" in " ".join(segment.text for segment in transcript.segments)
    assert transcript.language == "en"
