"""The demo over HTTP: transcribing, bad files, and visitors who want what is not theirs."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import soundfile
from multiway_core.app import ModelOptions, launch
from multiway_core.errors import InputError
from multiway_speech.result import Segment, Transcript


@pytest.fixture(scope="module")
def url(model_folder):
    from multiway_asr.demo import build_demo

    blocks = build_demo(str(model_folder), device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


def handle_file(path: str):
    from gradio_client import handle_file

    return handle_file(path)


@pytest.fixture(scope="module")
def client(url):
    from gradio_client import Client

    return Client(url, verbose=False)


def test_a_program_transcribes(client, say, talk) -> None:
    say()
    data = client.predict(handle_file(str(talk)), " Anna ", 0, api_name="/transcribe")
    transcript = Transcript.from_json(data)
    assert transcript.source == "talk.wav"
    assert [s.text for s in transcript.segments] == ["Grüße, Anna.", "the audio"]
    data = client.predict(handle_file(str(talk)), "", 1, api_name="/transcribe")
    assert Transcript.from_json(data).speakers == (0,)


@pytest.mark.parametrize("content", [b"", b"not a recording", b"RIFF\x10\x00\x00\x00WAVEfmt "])
def test_a_bad_file_is_a_message(client, tmp_path, content) -> None:
    path = tmp_path / "<b>bad.wav"
    path.write_bytes(content)
    with pytest.raises(Exception) as error:
        client.predict(handle_file(str(path)), "", 0, api_name="/transcribe")
    assert "bad" in str(error.value)
    assert "<b>" not in str(error.value)
    assert "/tmp" not in str(error.value)
    assert "Traceback" not in str(error.value)


def test_nothing_chosen_and_too_much_context_are_messages(client, talk) -> None:
    with pytest.raises(Exception, match="choose a recording"):
        client.predict(None, "", 0, api_name="/transcribe")
    with pytest.raises(Exception, match="context: 30,000 characters; at most 20,000"):
        client.predict(handle_file(str(talk)), "a" * 30_000, 0, api_name="/transcribe")


def test_other_files_of_the_machine_are_refused(url, client) -> None:
    import httpx

    secret = str(Path(__file__).resolve())
    for path in (secret, "/etc/passwd"):
        with pytest.raises(Exception, match=r"(?i)not|invalid|error") as error:
            client.predict(
                {"path": path, "meta": {"_type": "gradio.FileData"}}, "", 0, api_name="/transcribe"
            )
        assert "root:" not in str(error.value)
        assert httpx.get(f"{url}gradio_api/file={path}", timeout=60).status_code in (400, 403, 404)


def test_no_telemetry_and_no_foreign_address_in_the_page(url) -> None:
    import httpx

    assert httpx.get(f"{url}config", timeout=60).json()["analytics_enabled"] is False
    page = httpx.get(url, timeout=60).text
    for host in ("googleapis", "gstatic", "cdnjs", "jsdelivr"):
        assert host not in page


@pytest.fixture
def session(model_folder):
    from multiway_asr.demo.session import DemoSession
    from multiway_asr.transcriber import Transcriber

    return DemoSession(Transcriber(ModelOptions(str(model_folder))))


def test_segments_stream_into_the_view(session, say, talk, monkeypatch) -> None:
    from multiway_asr.demo import session as module

    say()
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_UPDATES", 0.0)
    before = session.open(talk)
    assert before["segments"] == []
    assert before["duration"] == pytest.approx(2.0)
    values = list(session.transcribe(talk, "", 0))
    assert [len(value["segments"]) for value, _ in values] == [0, 1, 2, 2]
    assert [transcript is None for _, transcript in values] == [True, True, True, False]
    value, transcript = values[-1]
    assert json.dumps(value)
    assert value["summary"].startswith("2 segments · 2 speakers · 2.0 s in ")
    assert value["segments"][1] == {"start": 0.5, "end": 1.5, "speaker": 1, "text": "the audio"}
    assert transcript.source == "talk.wav"


def test_the_outline_and_the_sound_are_of_the_recording(session, tmp_path) -> None:
    loud, quiet = 0.5 * np.sin(np.arange(48_000) / 7), np.zeros(48_000)
    soundfile.write(tmp_path / "a.wav", np.concatenate([quiet, loud]), 48_000)
    value = session.open(tmp_path / "a.wav")
    peaks = np.array(value["peaks"])
    assert len(peaks) == pytest.approx(200, abs=2)
    assert peaks[:95].max() < 0.02
    assert peaks[105:195].min() > 0.3
    head, data = value["audio"].split(",")
    assert head == "data:audio/mpeg;base64"
    assert soundfile.info(io.BytesIO(b64decode(data))).duration == pytest.approx(2.0, abs=0.2)


def test_longer_recordings_are_heard_in_parts(session, say, tmp_path, noise, monkeypatch) -> None:
    from multiway_asr.demo import session as module

    say()
    soundfile.write(tmp_path / "long.wav", noise(90, 8000), 8000)
    *_, (value, transcript) = session.transcribe(tmp_path / "long.wav", "", 0)
    assert len(transcript.segments) >= 10
    assert value["segments"][-1]["start"] > 60
    monkeypatch.setattr(module, "MAX_SECONDS", 60.0)
    with pytest.raises(
        InputError, match=r"^long.wav: longer than 1 minutes; the command multiway-asr takes more$"
    ):
        session.open(tmp_path / "long.wav")


def test_values_of_the_view() -> None:
    from multiway_asr.demo.view import view_value

    empty = view_value()
    assert (empty["audio"], empty["segments"], empty["peaks"]) == (None, [], [])
    value = view_value(None, [Segment(0, 1.23456, None, "[Music]")], problems=("a",))
    assert value["segments"] == [{"start": 0, "end": 1.23, "speaker": None, "text": "[Music]"}]
    assert value["problems"] == ["a"]
