"""`voices` and `watermark`."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

conftest = importlib.import_module("apps.tts.tests.conftest")
RATE = 24_000
RECORDINGS = Path(__file__).parents[4] / "shared/data/speech/voices"

pytestmark = pytest.mark.usefixtures("brief")


def test_voices_are_listed(call, folder, voiceless_folder) -> None:
    assert call("voices", "--model", folder)[:2] == (0, "emma\nheart\njoe\nmichael\n")
    code, out, _ = call("voices", "--model", folder, "--json")
    assert json.loads(out) == {"model": str(folder), "voices": ["emma", "heart", "joe", "michael"]}
    code, out, err = call("voices", "--model", voiceless_folder)
    assert (code, out) == (0, "")
    assert "has no voices of its own; give recordings" in err


def test_a_voice_file_is_the_recording(call, folder, recording, tmp_path) -> None:
    alice = recording()
    arguments = ("voices", "make", alice, "-o", tmp_path / "alice.safetensors", "--model", folder)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert "add --consent" in err
    assert call(*arguments, "--consent")[:2] == (0, f"{tmp_path / 'alice.safetensors'}\n")

    def spoken(*options):
        out = tmp_path / "x.wav"
        assert call("speak", "Hi.", "-o", out, "--model", folder, "--steps", 1, *options)[0] == 0
        return out.read_bytes(), json.loads((tmp_path / "x.json").read_text())["speakers"][0]

    from_recording, part = spoken("--voice", f"1={alice}", "--consent")
    from_file, other = spoken("--voice", f"1={tmp_path / 'alice.safetensors'}")
    assert (part["source"], other["source"]) == ("recording", "file")
    assert from_recording[-6400:] == from_file[-6400:]
    assert (
        "voice files end in .safetensors"
        in call("voices", "make", alice, "-o", tmp_path / "a.pt", "--consent")[2]
    )


def test_marks_are_found_and_only_of_the_key(call, folder, recording, tmp_path) -> None:
    from multiway_speech import watermark

    rng = np.random.default_rng(0)
    plain = conftest.voice_sound(12.0) + (rng.normal(size=12 * RATE) * 0.02).astype(np.float32)
    marked = np.concatenate(list(watermark.embed([plain], RATE, "multiway")))
    marked_file, plain_file = recording(marked, "marked.wav"), recording(plain, "plain.flac")
    code, out, _ = call("watermark", "detect", marked_file)
    assert code == 0
    assert "marked.wav: marked; score " in out
    code, out, _ = call("watermark", "detect", marked_file, plain_file, "--json")
    assert code == 1
    first, second = json.loads(out)
    assert (first["marked"], second["marked"]) == (True, False)
    assert first["score"] > first["threshold"] > second["score"]
    code, out, _ = call("watermark", "detect", marked_file, "--watermark-key", "secret")
    assert code == 1
    assert "no mark of this key" in out
    code, out, _ = call("watermark", "detect", recording())
    assert "in less than 6 s a mark may be missed" in out
    assert call("watermark", "detect", "nowhere.wav")[::2] == (2, "multiway-tts: nowhere.wav: no such file\n")
    code, out, err = call("watermark", "detect", "nowhere.wav", marked_file)  # the good file keeps its result
    assert (code, err) == (1, "multiway-tts: nowhere.wav: no such file\n")
    assert "marked.wav: marked; score " in out


def test_only_the_marked_minute_of_a_long_recording_is_named(recording) -> None:
    from multiway_speech import watermark
    from multiway_tts.watermark_detection import as_line, detect_watermark

    rng = np.random.default_rng(0)
    plain = (np.tile(conftest.voice_sound(2.0), 50) + rng.normal(size=100 * RATE) * 0.02).astype(np.float32)
    plain[60 * RATE :] = np.concatenate(list(watermark.embed([plain[60 * RATE :]], RATE, "k")))
    path = recording(plain, "mixed.flac")
    found = detect_watermark(path, "k")
    assert [(part.start, part.marked) for part in found] == [(0.0, False), (60.0, True)]
    assert ": marked in 60-100 s; score" in as_line(path, found)


@pytest.mark.shared_data
@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs ../shared/data")
def test_real_speech_is_taken_as_a_voice() -> None:
    from multiway_tts.voice_check import check_recording

    paths = sorted(RECORDINGS.glob("*.flac"))
    assert len(paths) >= 5
    for path in paths:
        assert check_recording(path) is None
