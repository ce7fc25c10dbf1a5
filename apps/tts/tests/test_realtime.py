"""VibeVoice-Realtime behind the same commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_speech.vibevoice.pipeline import Speech, SpeechOptions
from multiway_tts.model import load_synthesizer, speech_options
from multiway_tts.realtime import RealtimeSynthesizer


@pytest.fixture(scope="module")
def speaker(realtime_folder):
    found = load_synthesizer(str(realtime_folder))
    assert isinstance(found, RealtimeSynthesizer)
    return found


def test_turns_are_spoken_one_by_one_with_their_pauses(speaker) -> None:
    voices = {"Speaker 1": speaker.voice("emma"), "Speaker 2": speaker.voice("emma")}
    script = "Speaker 1: Hi. [pause:500ms] Ho.\nSpeaker 2: Ha. [pause:100ms]"
    *pieces, speech = speaker.stream(script, voices, SpeechOptions(diffusion_steps=1))
    assert isinstance(speech, Speech)
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), speech.samples)
    assert [[turn.text for turn in section.turns] for section in speech.sections] == [
        ["Hi."],
        ["Ho."],
        ["Ha."],
    ]
    first, second, third = speech.sections
    assert second.start == pytest.approx(first.end + 0.5)
    assert third.start == pytest.approx(second.end)
    assert len(speech.samples) / speaker.sample_rate == pytest.approx(third.end + 0.1)
    assert not speech.complete  # untrained, it speaks until its positions are used up


def test_its_own_defaults_and_limits(speaker, tmp_path) -> None:
    options = speech_options(speaker, seed=7)
    assert (options.guidance, options.diffusion_steps, options.seed) == (1.5, 5, 7)
    with pytest.raises(InputError, match="Speaker 2 has no voice"):
        speaker.stream("Speaker 1: a\nSpeaker 2: b", {"Speaker 1": speaker.voice("emma")})
    with pytest.raises(InputError, match="takes no recordings as voices"):
        speaker.voice("alice", tmp_path / "alice.wav")


def test_speak(call, realtime_folder, tmp_path, recording) -> None:
    arguments = ("speak", "Hi.", "-o", tmp_path / "x.wav", "--model", realtime_folder, "--steps", 1, "--json")
    code, out, _ = call(*arguments)
    assert code == 1  # not at its end
    manifest = json.loads(out)
    assert manifest["speakers"][0]["voice"] == "emma"
    assert manifest["turns"][0]["estimated"] is False
    code, _, err = call(*arguments, "--voice", f"1={recording()}", "--consent")
    assert code == 2
    assert "takes no recordings as voices" in err
    assert call("voices", "--model", realtime_folder)[1] == "emma\n"
