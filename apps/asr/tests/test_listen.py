"""The command ``listen``: raw PCM and recordings in place of a microphone, and what it says without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from multiway_asr import live
from multiway_core.app import ModelOptions
from multiway_core.errors import InputError
from multiway_speech.audio import SoundFile, read

DIALOGUE = Path(__file__).resolve().parents[3] / "examples" / "dialogue.flac"


def test_raw_sound_on_standard_input(tmp_path) -> None:
    samples = read(SoundFile(DIALOGUE), live.RATE, max_seconds=60)[: 5 * live.RATE]
    raw = (samples * 32767).astype("<i2").tobytes()
    command = [sys.executable, "-m", "multiway_asr", "listen", "-", "-o", str(tmp_path / "said.json")]
    done = subprocess.run(
        [*command, "--model", "bundled:whisper-tiny.en"], input=raw, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines
    assert "\x1b" not in done.stdout.decode()
    said = json.loads((tmp_path / "said.json").read_text())
    assert len(said["segments"]) == len(lines)
    assert said["duration"] == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize(
    ("output", "message"), [("said.mp3", "ending in json"), ("nowhere/said.txt", "a folder that exists")]
)
def test_bad_output_is_told_before_anything_is_loaded(tmp_path, output: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        live.listen_to("-", ModelOptions(), "", tmp_path / output)


def test_without_sounddevice_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError, match=r"multiway-asr\[microphone\]"):
        next(live._microphone(""))


def test_a_microphone_that_is_not_there(monkeypatch) -> None:
    class Stream:
        def __init__(self, **options: object) -> None:
            raise ValueError(f"No input device matching {options['device']!r}")

    module = type(sys)("sounddevice")
    module.InputStream, module.PortAudioError = Stream, OSError
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    with pytest.raises(InputError, match="No input device matching 'abc'"):
        next(live._microphone("abc"))


def test_a_microphone_gives_what_it_hears(monkeypatch) -> None:
    class Stream:
        def __init__(self, callback, blocksize: int, **options: object) -> None:
            for value in (0.25, 0.5):
                callback(np.full((blocksize, 1), value, np.float32), blocksize, None, None)

        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            pass

    module = type(sys)("sounddevice")
    module.InputStream, module.PortAudioError = Stream, OSError
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    sound = live._microphone("3")
    assert [float(next(sound)[0]) for _ in range(2)] == [0.25, 0.5]
