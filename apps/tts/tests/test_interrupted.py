"""What stops a speech early leaves the sound until then, under a name that says so: in real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from multiway_speech.audio import SoundFile, read

RATE = 16_000
# A model that does not end by itself, held back so that there is time to stop it.
# A shell starts its background jobs with SIGINT ignored, and children inherit that: Python's handler is set here.
PRELUDE = """
import resource, sys, time
from multiway_speech.vibevoice.generation import SpeechGenerator
real = SpeechGenerator.stream
def slow(self, *arguments):
    for step in real(self, *arguments):
        time.sleep(0.02)
        yield step
SpeechGenerator.stream = slow
"""
MAIN = """
from multiway_tts.app import APP
sys.argv[0] = "multiway-tts"
APP.main()
"""


@pytest.fixture
def start(folder, tmp_path):
    """``start(*options, prelude)``: `speak` in a process of its own, into talk.wav."""
    started = []

    def starter(*options, prelude="", output="talk.wav", **more):
        code = PRELUDE + prelude + MAIN
        arguments = ["speak", "Hello there.", "-o", output, "--model", str(folder), "--steps", "1", *options]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            **{"text": True, **more},
        )
        started.append(process)
        return process

    yield starter
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(path, size) -> None:
    for _ in range(2400):
        if path.exists() and path.stat().st_size > size:
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} does not grow")


def test_ctrl_c_keeps_what_was_spoken(start, tmp_path) -> None:
    process = start("--srt")
    wait_for(tmp_path / "talk.partial.wav", 20_000)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert len(err.splitlines()) == 1
    assert "multiway-tts: interrupted; the first " in err
    assert "are in talk.partial.wav (partial)" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.partial.json", "talk.partial.wav"]
    samples = read(SoundFile(tmp_path / "talk.partial.wav"), RATE, max_seconds=60)
    assert samples.any()
    manifest = json.loads((tmp_path / "talk.partial.json").read_text())
    assert manifest["complete"] is False
    assert manifest["audio"] == "talk.partial.wav"
    assert manifest["duration"] == pytest.approx(len(samples) / RATE, abs=0.1)
    assert manifest["problems"][0].endswith("s: interrupted")


@pytest.mark.parametrize("output", ["talk.wav", "talk.flac", "talk.mp3"])
def test_a_full_disk_keeps_what_was_spoken(start, tmp_path, output) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))\n"
    process = start(prelude=limit, output=output)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2, err
    assert len(err.splitlines()) == 1
    partial = tmp_path / output.replace("talk", "talk.partial")
    assert f"cannot write more to {partial.name}: File too large; it holds the first " in err
    assert not (tmp_path / output).exists()
    assert len(read(SoundFile(partial), RATE, max_seconds=60)) > RATE // 2


def test_a_reader_that_goes_away_is_no_error(start, tmp_path) -> None:
    process = start("--stream", stdout=subprocess.PIPE, text=False)
    assert len(process.stdout.read(4000)) == 4000
    process.stdout.close()
    err = process.stderr.read().decode()
    assert process.wait(timeout=240) == 141
    assert "the reader of standard output went away; the first " in err
    assert (tmp_path / "talk.partial.wav").exists()


def test_a_model_that_does_not_end_is_told_and_its_sound_is_marked(
    call, folder, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MULTIWAY_WATERMARK_KEY", "mine")
    code, _, err = call(
        "speak", "Hi.", "-o", tmp_path / "talk.wav", "--model", folder, "--steps", 1, "--cfg", 1
    )
    assert code == 1
    assert "line 1: the model did not come to its end after 10." in err
    manifest = json.loads((tmp_path / "talk.json").read_text())
    assert manifest["complete"] is False
    assert (tmp_path / "talk.wav").stat().st_size > 300_000
    assert call("watermark", "detect", tmp_path / "talk.wav")[0] == 0
    assert call("watermark", "detect", tmp_path / "talk.wav", "--watermark-key", "other")[0] == 1
