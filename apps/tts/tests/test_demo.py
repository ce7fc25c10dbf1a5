"""The demo's functions, and the demo for programs."""

from __future__ import annotations

import base64
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from multiway_core.app import launch
from multiway_core.errors import InputError
from multiway_speech.audio import SoundFile, read
from multiway_tts.demo import Session
from multiway_tts.demo.examples import EXAMPLES
from multiway_tts.demo.session import LONGEST, MODELS_CHOICE, OWN, Choice, write_files
from multiway_tts.model import load_synthesizer

conftest = importlib.import_module("apps.tts.tests.conftest")
RATE = 24_000

pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture(scope="module")
def session(folder, brief):
    return Session(load_synthesizer(str(folder)))


@pytest.fixture(scope="module")
def client(folder, brief):
    from gradio_client import Client
    from multiway_tts.demo import build_demo

    blocks = build_demo(str(folder), device="cpu")
    yield Client(launch(blocks, block=False), verbose=False)
    blocks.close(verbose=False)


def choice(**changes) -> Choice:
    return Choice(**({"voices": ("heart", "joe", "emma", "emma"), "steps": 1} | changes))


def decoded(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<i2")


def test_sound_comes_in_pieces_and_then_whole_with_its_turns(session, tmp_path) -> None:
    text = "Speaker 1: Hello. [pause:300ms] There.\nSpeaker 2: Good morning."
    *values, (done, manifest, samples) = session.speak(text, choice())
    assert all(none is None for _, none, _ in values)
    heard: dict[int, np.ndarray] = {}
    for value, _, _ in values:
        assert json.dumps(value)
        assert value["run"] == done["run"]
        heard |= {number: decoded(data) for number, data in value["chunks"]}
    assert sorted(heard) == list(range(len(heard)))
    live = np.concatenate([heard[number] for number in sorted(heard)])
    whole = decoded(done["pcm"])
    assert 0 < len(live) <= len(whole) == len(samples)
    np.testing.assert_array_equal(live, whole[: len(live)])
    assert (done["state"], done["rate"]) == ("done", RATE)
    assert [(t["speaker"], t["disclaimer"]) for t in done["turns"]] == [
        (0, True),
        (0, False),
        (0, False),
        (1, False),
    ]
    assert done["speakers"] == ["Speaker 1", "Speaker 2"]
    assert [part.voice for part in manifest.speakers] == ["heart", "joe"]
    assert manifest.disclaimer == "prefix"
    assert manifest.watermarked
    files = [Path(file) for file in write_files(tmp_path, manifest, samples)]
    assert [file.name for file in files] == ["speech.wav", "speech.srt", "speech.vtt", "speech.json"]
    assert len(read(SoundFile(files[0]), RATE, max_seconds=60)) == len(samples)
    assert json.loads(files[3].read_text())["turns"][3]["speaker"] == "Speaker 2"


def test_what_is_stopped_is_kept_and_called_partial(session, tmp_path) -> None:
    stream = session.speak("Hello. [pause:2s] There. [pause:2s] Again.", choice(), visitor="me")
    next(stream)
    next(stream)
    session.stop("somebody else")
    session.stop("me")
    *_, (value, manifest, samples) = stream
    assert value["state"] == "partial"
    assert "partial: stopped after" in value["summary"]
    assert 0 < len(samples) < 3 * RATE
    assert Path(write_files(tmp_path, manifest, samples)[0]).name == "speech.partial.wav"


def test_an_own_voice_takes_consent(session, recording) -> None:
    own = choice(voices=(OWN, "joe", "joe", "joe"))
    with pytest.raises(InputError, match="upload or record one first"):
        session.prepare("Hello.", own)
    path = str(recording())
    with pytest.raises(InputError, match="must have agreed"):
        session.prepare("Hello.", choice(voices=own.voices, own=path))
    synthesis = session.prepare("Hello.", choice(voices=own.voices, own=path, consent=True))
    part = synthesis.cast.parts[0]
    assert (part.source, part.consent) == ("recording", True)
    noise = recording(np.random.default_rng(0).normal(size=2 * RATE) * 0.1, "noise.wav")
    with pytest.raises(InputError, match="no voice is heard in it"):
        session.prepare("Hello.", choice(voices=own.voices, own=str(noise), consent=True))


def test_what_cannot_be_spoken(session) -> None:
    for text, message in [
        (" ", "write a script first"),
        ("word " * LONGEST, "the demo takes"),
        ("Bob: Hi.", "no voice is called 'Bob'"),
        ("\n".join(f"Speaker {i}: Hi." for i in range(9)), "9 speakers"),
    ]:
        with pytest.raises(InputError, match=message):
            session.prepare(text, choice())
    # A name is its own voice, whatever the menus say; a fifth number takes one that is free.
    parts = session.prepare("Michael: Hi.\nSpeaker 7: Ho.", choice()).cast.parts
    assert [(part.speaker, part.voice) for part in parts] == [("Speaker 7", "emma"), ("michael", "michael")]


def test_examples_can_be_spoken(session) -> None:
    for text in EXAMPLES.values():
        assert session.prepare(text, choice()).cast.parts


def test_a_model_without_voices(voiceless_folder) -> None:
    session = Session(load_synthesizer(str(voiceless_folder)))
    assert session.choices() == [MODELS_CHOICE, OWN]
    synthesis = session.prepare("Speaker 1: Hi.\nSpeaker 2: Ho.", choice(voices=(MODELS_CHOICE,) * 4))
    assert {part.source for part in synthesis.cast.parts} == {"chosen by the model"}


def test_one_call_is_the_sound_and_the_manifest(client) -> None:
    settings = ("heart", "joe", "emma", "emma", None, False, "none", 3, 1, 1)
    path, manifest = client.predict("Speaker 2: Hello.", *settings, api_name="/speak")
    assert manifest["schema"] == "multiway.tts/1"
    assert manifest["settings"] == {
        "seed": 3,
        "guidance": 1.0,
        "diffusion_steps": 1,
        "speed": 1.0,
        "pause": None,
    }
    assert [part["voice"] for part in manifest["speakers"]] == ["joe"]
    assert len(read(SoundFile(path), RATE, max_seconds=60)) == RATE // 5


def test_an_error_is_one_line(client) -> None:
    from gradio_client.exceptions import AppError

    settings = ("heart", "joe", "emma", "emma", None, False, "none", 3, 1, 1)
    with pytest.raises(AppError, match="write a script first"):
        client.predict(" ", *settings, api_name="/speak")
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/speak"}
