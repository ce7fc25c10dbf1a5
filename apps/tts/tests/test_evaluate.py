"""`evaluate` and `train`: texts, scorers, the control, and other people's recordings."""

from __future__ import annotations

import importlib
import json
import sys
import types

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_tts import scorers
from multiway_tts.texts import TextItem, read_texts, shuffled_texts

conftest = importlib.import_module("apps.tts.tests.conftest")
RATE = 24_000
TEXTS = ["Good morning to you.", "The train is late.", "She reads a long book."]

pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    voices = ["heart", None, "joe"]
    path.write_text(
        "".join(json.dumps({"text": t, "voice": v}) + "\n" for t, v in zip(TEXTS, voices, strict=True))
    )
    return path


@pytest.fixture
def fake_whisper(monkeypatch):
    """A recogniser that knows sounds by their place, and says some of their words; what it was told is kept."""
    told = {"heard": 0}

    class WhisperModel:
        def __init__(self, name, **options):
            if name == "nothing":
                raise ValueError("Invalid model size")
            told["name"] = name

        def transcribe(self, samples, language, **options):
            assert samples.dtype == np.float32
            told["language"] = language
            text = TEXTS[told["heard"] % len(TEXTS)]
            told["heard"] += 1
            words = text if told["heard"] != 2 else "the train was late"
            return iter([types.SimpleNamespace(text=f" {words.upper()}!")]), None

    monkeypatch.setitem(sys.modules, "faster_whisper", types.SimpleNamespace(WhisperModel=WhisperModel))
    return told


@pytest.fixture
def fake_embedder(monkeypatch):
    """Speakers are told apart by their spectrum."""

    class VoiceEncoder:
        def __init__(self, *arguments, **options):
            pass

        def embed_utterance(self, samples):
            spectrum = np.abs(np.fft.rfft(samples, 4096))[:256]
            return spectrum / np.linalg.norm(spectrum)

    monkeypatch.setitem(sys.modules, "resemblyzer", types.SimpleNamespace(VoiceEncoder=VoiceEncoder))


def test_texts_of_both_kinds(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("One.\n\n Two. \n")
    assert read_texts(tmp_path / "a.txt") == [TextItem("0001", "One."), TextItem("0002", "Two.")]
    (tmp_path / "a.jsonl").write_text(
        '{"text": "One.", "voice": "x", "file": "f-1.flac"}\n{"text": "Two.", "name": "n"}\n'
    )
    assert read_texts(tmp_path / "a.jsonl") == [
        TextItem("f-1", "One.", "x", "f-1.flac"),
        TextItem("n", "Two."),
    ]
    for bad, message in [
        ("{", "a.jsonl:1: not JSON"),
        ("[1]", "expected an object"),
        ('{"text": " "}', "empty"),
        ('{"text": 1}', "expected a string"),
        ('{"text": "x", "voice": 2}', "expected a string"),
    ]:
        (tmp_path / "a.jsonl").write_text(bad + "\n")
        with pytest.raises(DataError, match=message.replace("[", r"\[")):
            read_texts(tmp_path / "a.jsonl")
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(InputError, match="no texts in it"):
        read_texts(tmp_path / "a.txt")
    with pytest.raises(InputError, match="no such file"):
        read_texts(tmp_path / "b.txt")


def test_the_control_is_never_the_same_text() -> None:
    items = [TextItem(str(i), text) for i, text in enumerate(["a", "a", "b", "c", "a"])]
    for seed in range(6):
        assert all(
            other not in (None, item.text)
            for item, other in zip(items, shuffled_texts(items, seed), strict=True)
        )
    assert shuffled_texts(items[:2], 0) == [None, None]


def test_errors_are_counted_without_case_and_punctuation() -> None:
    assert scorers.plain_words("Don’t—stop, “Ana”! 3 Straße_x") == "don't stop ana 3 straße x"
    assert scorers.word_errors("the train was late too", "The train is late.") == (2, 4)
    assert scorers.word_errors("", "The train.") == (2, 2)
    assert scorers.character_errors("the tran", "The train.") == (1, 9)
    assert scorers.word_errors("something", "...") == (0, 0)


def test_a_model_is_measured(call, folder, texts, tmp_path, fake_whisper) -> None:
    out = tmp_path / "report"
    code, printed, err = call(
        "evaluate", texts, "--model", folder, "--recognizer", "base", "-o", out, "--steps", 1, "--json"
    )
    assert code == 0, err
    report = json.loads(printed)
    metrics = {name: metric["mean"] for name, metric in report["metrics"].items()}
    assert metrics["wer"] == pytest.approx(1 / 13)
    assert 0 < metrics["cer"] < 0.1
    assert metrics["wer_shuffled"] > 0.8
    assert metrics["unfinished"] == 0
    assert metrics["duration"] == pytest.approx(0.2)
    assert metrics["rtf"] > 0
    assert set(report["groups"]) == {"heart", "joe"}  # the second text took the second voice
    assert report["groups"]["joe"]["wer"]["mean"] == 0
    assert fake_whisper["name"] == "base"
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [(row["text"], row["voice"]) for row in rows] == list(
        zip(TEXTS, ["heart", "heart", "joe"], strict=True)
    )
    assert rows[1]["heard"] == "THE TRAIN WAS LATE!"
    assert sorted(path.name for path in out.iterdir()) == [
        "audio",
        "report.json",
        "report.md",
        "report.png",
        "rows.jsonl",
    ]

    # The same command scores recordings: those that were just made, and anybody else's.
    fake_whisper["heard"] = 0
    code, printed, err = call(
        "evaluate", texts, "--reference", out / "audio", "--recognizer", "base", "--json"
    )
    assert code == 0, err
    again = json.loads(printed)
    assert again["metrics"]["wer"] == report["metrics"]["wer"]
    assert "rtf" not in again["metrics"]
    (out / "audio" / "0002.wav").unlink()
    code, printed, _ = call("evaluate", texts, "--reference", out / "audio", "--recognizer", "base", "--json")
    assert json.loads(printed)["failed"] == 1
    assert "no recording of 0002" in json.loads(printed)["rows"][1]["error"]


def test_speakers_are_compared(call, folder, texts, tmp_path, fake_embedder) -> None:
    code, printed, err = call("evaluate", texts, "--model", folder, "--similarity", "--steps", 1, "--json")
    assert code == 0, err
    metrics = json.loads(printed)["metrics"]
    assert -1 <= metrics["speaker_cosine"]["mean"] <= 1
    assert 0 <= metrics["speaker_identified"]["mean"] <= 1

    # With recordings of the voices: speech that is one of them is recognised as it.
    sounds, known = tmp_path / "sounds", tmp_path / "known"
    (known / "joe").mkdir(parents=True)
    sounds.mkdir()
    from multiway_speech.audio_writer import write_audio

    low = conftest.voice_sound(2.0)
    high = np.ascontiguousarray(conftest.voice_sound(4.0)[::2])
    write_audio([low], known / "heart.wav", RATE)
    write_audio([high], known / "joe" / "a.wav", RATE)
    for name, sound in (("1", low), ("2", high)):
        write_audio([sound], sounds / f"{name}.wav", RATE)
    rows = [{"text": "One.", "name": "1", "voice": "heart"}, {"text": "Two.", "name": "2", "voice": "joe"}]
    texts.write_text("\n".join(map(json.dumps, rows)))
    arguments = ("evaluate", texts, "--reference", sounds, "--similarity", "--json")
    code, printed, err = call(*arguments, "--recordings", known)
    assert code == 0, err
    metrics = json.loads(printed)["metrics"]
    assert metrics["speaker_identified"]["mean"] == 1
    assert metrics["speaker_cosine"]["mean"] > 0.99
    assert "needs --recordings DIR" in call(*arguments)[2]
    (known / "heart.wav").unlink()
    assert "nothing of voice heart" in call(*arguments, "--recordings", known)[2]


def test_naturalness(call, folder, texts, monkeypatch) -> None:
    import torch

    class Model:
        def eval(self):
            return self

        def __call__(self, x_BT):
            assert x_BT.shape[0] == 1
            return torch.full((1,), 4.5)

    monkeypatch.setitem(sys.modules, "distillmos", types.SimpleNamespace(ConvTransformerSQAModel=Model))
    code, printed, err = call(
        "evaluate", texts, "--model", folder, "--mos", "--steps", 1, "--json", "--limit", 1
    )
    assert code == 0, err
    report = json.loads(printed)
    assert (report["n"], report["metrics"]["mos"]["mean"]) == (1, 4.5)


def test_what_is_missing_is_named(call, folder, texts, tmp_path, monkeypatch, fake_whisper) -> None:
    def refused(*options):
        code, out, err = call("evaluate", texts, "--model", folder, *options)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        return err

    assert "no such Whisper model here" in refused("--recognizer", "nothing")
    assert "no model.bin in it" in refused("--recognizer", tmp_path)
    assert "no such folder" in refused("--reference", tmp_path / "nowhere")
    texts.write_text('{"text": "One.", "voice": "nobody"}\n')
    assert "no voice 'nobody'; the model has: emma, heart" in refused()
    for option, module, extra in [
        ("--similarity", "resemblyzer", "similarity"),
        ("--mos", "distillmos", "mos"),
    ]:
        monkeypatch.setitem(sys.modules, module, None)
        assert f"pip install 'multiway-tts[{extra}]'" in refused(option)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    own = scorers.load_recognizer(
        "bundled:asr-tiny"
    )  # what the quick evaluation listens with; it needs no extra
    assert own(np.zeros(8000, dtype=np.float32)) == ""
    assert "pip install 'multiway-tts[wer]'" in refused("--recognizer", "base")


@pytest.mark.usefixtures("brief")
def test_train_runs_the_recipes(call, monkeypatch, tmp_path) -> None:
    arguments = ("train", "--preset", "smoke", "--output", tmp_path / "run", "--steps", 1, "--seed", 3)
    code, out, err = call(*arguments, "--voice", "anna=middle", "--weight", "low=2", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["model"] == str(tmp_path / "run" / "model")
    assert set(report["held_out"]) == {"frame", "right"}
    assert [path.stem for path in (tmp_path / "run" / "model" / "voices").iterdir()] == ["anna"]
    codec = (
        "train",
        "--preset",
        "codec-smoke",
        "--output",
        tmp_path / "codec",
        "--steps",
        1,
        "--batch-size",
        2,
    )
    code, out, err = call(*codec)
    assert code == 0, err
    assert "held-out mel" in out
    assert (
        "--batch-size: the preset tiny has no such thing"
        in call("train", "--batch-size", 2, "--output", "x")[2]
    )
    assert "expected NAME=VOICE" in call("train", "--voice", "anna", "--output", "x")[2]
    monkeypatch.setitem(sys.modules, "multiway_core.training", None)
    assert "pip install 'multiway-tts[training]'" in call("train", "--output", "x")[2]


def test_data_needs_what_it_names(call, tmp_path) -> None:
    made = ("data", "synthesize", "--sentences", tmp_path / "x.txt", "-o", tmp_path / "made", "--minutes", 1)
    assert "no such file or folder" in call(*made)[2]
    assert "--kokoro-voices DIR is needed" in call(*made, "--voice", "af_heart")[2]
