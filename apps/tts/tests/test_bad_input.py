"""What cannot be spoken is one clear line and exit code 2, before anything is written."""

from __future__ import annotations

import importlib
import json
import struct

import av
import numpy as np
import pytest

conftest = importlib.import_module("apps.tts.tests.conftest")
RATE = 16_000

pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture
def refused(call, folder, tmp_path):
    """``refused(message, *arguments)``: `speak` says this in one line and leaves nothing behind."""

    def check(message, *arguments, output="out.wav", model=folder):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = call("speak", "--steps", 1, "-o", tmp_path / output, "--model", model, *arguments)
        assert (code, out) == (2, ""), err
        assert len(err.splitlines()) == 1
        assert message in err
        assert sorted(tmp_path.rglob("*")) == before

    return check


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("", "the script is empty"),
        (" \n\t", "the script is empty"),
        ("nowhere.txt", "nowhere.txt: no such file"),
        ("Bob: Hello.", "no voice is called 'Bob'; there are: emma, heart, joe, michael"),
        ("\n".join(f"Speaker {i}: Hello." for i in range(9)), "9 speakers (Speaker 0, Speaker 1"),
        ("Speaker 1:\nSpeaker 2: Hello.", "line 1: Speaker 1 says nothing"),
        ("Speaker 1: 👋 ...", "nothing in what Speaker 1 says can be spoken"),
        ("Speaker 1: " + "a" * 101, "a word of 101 characters; at most 100"),
        ("Hello [pause:5].", "'[pause:5]' is not a pause; write [pause:500ms]"),
        ("Hello [pause:90s] there.", "a pause of 90 s; at most 60 s"),
        ("[pause:2s]", "there is nothing to speak in it"),
        ("word and " * 2500, "positions, and the model has 2500; divide the script"),
    ],
)
def test_scripts(refused, script, message) -> None:
    refused(message, script)


def test_script_files(refused, tmp_path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"Gr\xfc\xdfe")
    refused("latin.txt:1: not UTF-8 text", tmp_path / "latin.txt")
    (tmp_path / "talk.json").write_text('{"speaker": 1}')
    refused('talk.json: expected a list of {"speaker": ..., "text": ...}', tmp_path / "talk.json")
    (tmp_path / "talk.json").write_text("[")
    refused("talk.json: not JSON", tmp_path / "talk.json")
    (tmp_path / "talk.json").write_text(json.dumps([{"speaker": 1, "text": 5}]))
    refused('item 1 of the JSON list is not an object with "speaker" and "text"', tmp_path / "talk.json")
    refused("is a folder; give a script file", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--voice", "9=emma"], "--voice Speaker 9=...: the script's speakers are: Speaker 1"),
        (["--voice", "1=emma", "--voice", "1=joe"], "Speaker 1 has two voices, emma and joe"),
        (
            ["--voice", "1=nobody"],
            "no voice 'nobody': no such file, and the model's own voices are: emma, heart",
        ),
        (["--voice", "1="], "expected SPEAKER=VOICE"),
        (["--cfg", "99"], "guidance must be from 0 to 20"),
        (["--steps", "0"], "Invalid value for '--steps'"),
        (["--steps", "9999"], "diffusion_steps must be from 1 to 500"),
        (["--device", "tpu"], "--device tpu: expected cpu"),
        (["--json", "--stream"], "both write to standard output"),
    ],
)
def test_options(refused, options, message) -> None:
    refused(message, "Hello.", *options)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.aac", "cannot write .aac; use .wav, .flac, .mp3, .ogg, .opus"),
        ("out", "cannot write a name without suffix"),
        ("missing/out.wav", "missing does not exist; make it first"),
    ],
)
def test_outputs(refused, output, message) -> None:
    refused(message, "Hello.", output=output)


def test_an_output_that_is_a_folder(refused, tmp_path) -> None:
    (tmp_path / "out.wav").mkdir()
    refused("out.wav is a folder; give a file name", "Hello.")


def test_nowhere_to_write_to(call, folder) -> None:
    code, out, err = call("speak", "Hello.", "--model", folder)
    assert (code, out) == (2, "")
    assert "give -o FILE, or --stream" in err
    assert (
        "--srt and --vtt are written beside a file"
        in call("speak", "Hi.", "--stream", "--srt", "--model", folder)[2]
    )


def test_models_that_are_not_there(refused, tmp_path) -> None:
    refused("no bundled model 'nothing'", "Hello.", model="bundled:nothing")
    refused("neither an existing path nor a hub id", "Hello.", model=tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    refused("config.json", "Hello.", model=tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text("{")
    refused("config.json", "Hello.", model=tmp_path / "empty")


def test_recordings_that_hold_no_voice(refused, recording, tmp_path) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(3 * RATE) / RATE
    for name, samples, message in [
        ("noise.wav", rng.normal(size=3 * RATE) * 0.1, "no voice is heard in it (sounds like noise)"),
        ("tone.wav", np.sin(2 * np.pi * 220 * time) * 0.3, "no rhythm of syllables, like music"),
        ("silence.wav", np.zeros(3 * RATE), "silence.wav is silent"),
        ("short.wav", conftest.voice_sound(0.2), "short.wav has 0.2 s of sound; give 1 to 60 s"),
        ("long.wav", np.tile(conftest.voice_sound(2.0), 31), "long.wav: longer than 60 s"),
    ]:
        path = recording(samples, name)
        refused(message, "Hello.", "--voice", f"1={path}", "--consent")
    (tmp_path / "empty.wav").write_bytes(b"")
    refused("not a sound file that can be read", "Hello.", "--voice", tmp_path / "empty.wav", "--consent")
    good = recording().read_bytes()
    (tmp_path / "head.wav").write_bytes(good[:44])
    refused("head.wav", "Hello.", "--voice", tmp_path / "head.wav", "--consent")
    (tmp_path / "corrupt.flac").write_bytes(good[:20] + rng.bytes(3000))
    refused("corrupt.flac", "Hello.", "--voice", tmp_path / "corrupt.flac", "--consent")
    (tmp_path / "voice.safetensors").write_bytes(rng.bytes(100))
    refused("voice.safetensors", "Hello.", "--voice", tmp_path / "voice.safetensors")


def test_odd_recordings_that_hold_one_are_taken(call, folder, recording, tmp_path) -> None:
    def taken(path):
        code, _, err = call("speak", "Hi.", "-o", tmp_path / "out.wav", "--model", folder, "--steps", 1,
                            "--voice", f"1={path}", "--consent")  # fmt: skip
        assert code == 0, err
        return err

    taken(recording(conftest.voice_sound(2.0, 8000), "telephone.wav", 8000))
    assert "clipped; the voice may sound distorted" in taken(
        recording(conftest.voice_sound(2.0) * 9, "loud.wav")
    )
    stereo = np.repeat(conftest.voice_sound(2.0, 44_100).astype("<f4")[:, None], 2, axis=1).tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(stereo), b"WAVE", b"fmt ", 16, 3, 2, 44_100,
                       44_100 * 8, 8, 32, b"data", len(stereo))  # fmt: skip
    (tmp_path / "float.wav").write_bytes(head + stereo)
    taken(tmp_path / "float.wav")
    taken(film(tmp_path / "film.mp4"))


def film(path):
    """A video with a voice in it."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        for _ in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
            container.mux(picture.encode(frame))
        frame = av.AudioFrame.from_ndarray(conftest.voice_sound(2.0)[None], "flt", "mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler("fltp", "mono", RATE, frame_size=1024)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(sound.encode(part))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))
    return path


def test_a_video_without_sound_is_no_voice(refused, tmp_path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
        container.mux(picture.encode(None))
    refused("there is no sound in this file", "Hello.", "--voice", path, "--consent")
