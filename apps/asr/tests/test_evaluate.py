"""``multiway-asr evaluate``: what files tell, what scores mean, and a run on recordings or on finished transcripts."""

from __future__ import annotations

import json
import sys

import pytest
import soundfile
from multiway_core.errors import DataError, InputError
from multiway_speech.result import Segment, Transcript

from apps.asr.tests.conftest import SECOND

pytestmark = pytest.mark.requires("meeteval", "pyannote.metrics", "whisper_normalizer")


def transcript(
    *segments: tuple[float, float, int | None, str], name: str = "talk", language: str | None = None
) -> Transcript:
    return Transcript(f"{name}.wav", "m", 10.0, tuple(Segment(*s) for s in segments), language)


def score(reference: Transcript, hypothesis: Transcript, **scoring) -> dict[str, float | None]:
    from multiway_asr.metrics import Hypothesis, ScoringOptions, metrics
    from multiway_asr.references import Annotation

    target, heard = Annotation.of(reference, "talk"), Hypothesis(Annotation.of(hypothesis, "talk"), 2.5)
    found = {}
    for name, metric in metrics(ScoringOptions(**scoring)).items():
        value = metric(heard, target)
        found[name] = value[0] / value[1] if isinstance(value, tuple) and value[1] else value
    return found


REFERENCE = transcript((0, 4, 0, "Mr. Smith paid twenty one pounds."), (4, 8, 1, "The colour isn't grey."))


def test_the_same_words_in_another_spelling_are_no_errors() -> None:
    hypothesis = transcript((0, 4, 5, "mister smith paid £21"), (4, 8, 2, "the color is not gray [Music]"))
    found = score(REFERENCE, hypothesis)
    assert found["wer"] == found["cpwer"] == found["tcpwer"] == 0
    assert found["der"] == 0
    assert found["exact"] == 1
    assert found["rtf"] == pytest.approx(0.25)
    assert score(REFERENCE, hypothesis, normalizer="none")["wer"] > 0.5


def test_confused_speakers_cost_cpwer_and_der_but_not_wer() -> None:
    hypothesis = transcript((0, 4, 0, REFERENCE.segments[0].text), (4, 8, 0, REFERENCE.segments[1].text))
    found = score(REFERENCE, hypothesis)
    assert found["wer"] == 0
    # all four words of the first speaker are missed, and come as insertions with the second
    assert found["cpwer"] == pytest.approx(2 * 4 / 9)
    assert found["der"] == pytest.approx(
        3.5 / 7
    )  # half of a second around the turn's two ends does not count
    assert score(REFERENCE, hypothesis, der_collar=0.0)["der"] == pytest.approx(4 / 8)


def test_words_at_the_wrong_time_cost_tcpwer_only() -> None:
    reference = transcript((0, 1, 0, "good morning"))
    hypothesis = transcript((8, 9, 0, "good morning"))
    found = score(reference, hypothesis)
    assert found["cpwer"] == 0
    assert found["tcpwer"] == 2
    assert score(reference, hypothesis, collar=9.0)["tcpwer"] == 0


def test_nothing_heard_and_nothing_said() -> None:
    empty = transcript()
    found = score(REFERENCE, empty)
    assert (found["wer"], found["cpwer"], found["tcpwer"], found["der"], found["exact"]) == (1, 1, 1, 1, 0)
    silent = score(empty, transcript((0, 1, 0, "hello")))
    assert silent["wer"] == (1, 0)
    assert silent["exact"] == 0
    assert score(empty, empty)["exact"] == 1


def test_chinese_counts_by_characters() -> None:
    reference = transcript((0, 4, 0, "今天天气很好。"), language="zh")
    assert score(reference, transcript((0, 4, 0, "今天天汽很好")))["wer"] == pytest.approx(1 / 6)
    czech = transcript((0, 4, 0, "Vidíš to oko?"), language="cs")
    assert score(czech, transcript((0, 4, 0, "vidíš to oko")))["wer"] == 0
    assert score(czech, transcript((0, 4, 0, "vidis to oko")))["wer"] == pytest.approx(1 / 3)


def test_every_kind_of_file(tmp_path) -> None:
    from multiway_asr.references import read_annotations

    (tmp_path / "one.json").write_text(transcript((0, 1, 0, "a b")).dumps())
    (tmp_path / "report.json").write_text('{"schema": "multiway.evaluation/1"}')
    (tmp_path / "other.json").write_text("[1]")
    (tmp_path / "all.stm").write_text(
        ";; comment\ntwo 1 anna 1.5 2 <o,f0,female> hello  there\ntwo 1 bob 0 1 hi\n"
        "two 1 inter_segment_gap 2 3 IGNORE_TIME_SEGMENT_IN_SCORING\none 1 anna 0 1 not this one\n"
    )
    (tmp_path / "rows.jsonl").write_text(
        '{"audio": "clips/three.wav", "text": " x  y ", "language": "cs"}\n\n'
    )
    (tmp_path / "four.txt").write_text("plain\nwords\n")
    (tmp_path / "turns.rttm").write_text(
        "SPEAKER five 1 0.5 1.25 <NA> <NA> MEE071 <NA> <NA>\nSPKR-INFO five 1\n"
        "SPEAKER four 1 0 1 <NA> <NA> a <NA> <NA>\n"
    )
    found = read_annotations(tmp_path)
    assert list(found) == ["five", "four", "one", "three", "two"]
    assert found["one"].words == found["one"].turns == (Segment(0, 1, 0, "a b"),)
    assert found["two"].words == (Segment(0, 1, 1, "hi"), Segment(1.5, 2, 0, "hello there"))
    assert found["three"].words == (Segment(0, 0, 0, "x y"),)
    assert (found["three"].turns, found["three"].language) == (None, "cs")
    assert found["four"].words == (Segment(0, 0, 0, "plain words"),)
    assert found["four"].turns == (Segment(0, 1, 0, ""),)
    assert (found["five"].words, found["five"].turns) == (None, (Segment(0.5, 1.75, 0, ""),))
    assert list(read_annotations(tmp_path / "turns.rttm")) == ["five", "four"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.stm", "talk 1 anna 0 one hello", "a.stm:1: expected a number, got 'one'"),
        ("a.stm", "talk 1 anna 2 1 hello", "a.stm:1: from 2 to 1 s"),
        ("a.stm", "talk 1", "a.stm:1: expected recording, channel"),
        ("a.rttm", "SPEAKER talk 1 0 1", "a.rttm:1: expected SPEAKER"),
        ("a.jsonl", '{"audio": "a.wav"}', "a.jsonl:1: missing key 'text'"),
        ("a.jsonl", "{", "a.jsonl:1: not JSON"),
        ("a.json", "{", "a.json:1: not JSON"),
        ("a.json", '{"schema": "multiway.asr/1"}', "a.json: "),
        ("a.txt", b"\xff\xfe", "a.txt:1: not UTF-8"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, problem) -> None:
    from multiway_asr.references import read_annotations

    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        read_annotations(tmp_path)
    assert problem in str(error.value)


def test_a_folder_without_transcripts(tmp_path) -> None:
    from multiway_asr.references import read_annotations

    for path in (tmp_path, tmp_path / "none", tmp_path / "x.doc"):
        (tmp_path / "x.doc").touch()
        with pytest.raises(InputError):
            read_annotations(path)


@pytest.fixture
def clips(tmp_path, noise):
    """A set of two recordings with references."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.flac", noise(2.0), 16_000)
        said = transcript((0, 0.5, 0, "gruesse anna"), (0.5, 1.5, 1, "the audio"), name=name)
        (folder / f"{name}.json").write_text(said.dumps())
    return folder


def test_a_model_is_measured_and_its_transcripts_score_the_same(call, say, clips, tmp_path) -> None:
    say("[]", f"[{SECOND}]")
    code, out, _ = call("evaluate", clips, "--normalizer", "basic", "-o", tmp_path / "out")
    assert code == 0
    assert "| wer | cer | cpwer | tcpwer | der | exact | rtf |" in out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["metrics"]["wer"]["mean"] == pytest.approx(6 / 8)
    assert report["metrics"]["cpwer"]["mean"] == pytest.approx(6 / 8)
    assert report["metrics"]["rtf"]["mean"] > 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "recordings.jsonl").read_text().splitlines()]
    assert [(row["name"], row["reference"], row["hypothesis"]) for row in rows] == [
        ("a", "gruesse anna the audio", ""),
        ("b", "gruesse anna the audio", "the audio"),
    ]
    hypotheses = tmp_path / "out" / "hypotheses"
    code, out, _ = call("evaluate", clips, "--hypotheses", hypotheses, "--normalizer", "basic", "--json")
    assert code == 0
    again = json.loads(out)
    for name, metric in report["metrics"].items():
        assert again["metrics"][name]["mean"] == pytest.approx(metric["mean"], abs=1e-3), name


def test_other_systems_write_any_kind_of_file(call, clips, tmp_path) -> None:
    (tmp_path / "theirs").mkdir()
    lines = "".join(f"{name} 1 x 0 0.5 gruesse anna\n{name} 1 y 0.5 1.5 the audio\n" for name in "ab")
    (tmp_path / "theirs" / "all.stm").write_text(lines)
    code, out, _ = call("evaluate", clips, "--hypotheses", tmp_path / "theirs", "--json")
    assert code == 0
    metrics = json.loads(out)["metrics"]
    assert [metrics[name]["mean"] for name in ("wer", "cpwer", "tcpwer", "der", "exact")] == [0, 0, 0, 0, 1]
    assert "rtf" not in metrics


def test_several_sets_are_groups_and_a_missing_transcript_is_told(call, clips, tmp_path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "c.txt").write_text("hello")
    theirs = tmp_path / "theirs"
    for name, texts in {"clips": {"a": "gruesse anna the audio"}, "other": {"c": "hello you"}}.items():
        (theirs / name).mkdir(parents=True)
        for stem, text in texts.items():
            (theirs / name / f"{stem}.txt").write_text(text)
    code, out, err = call("evaluate", clips, other, "--hypotheses", theirs, "--json")
    assert code == 1
    assert err == "multiway-asr: 1 of 3 recordings failed and are not in the means\n"
    report = json.loads(out)
    assert report["groups"]["clips"]["wer"]["mean"] == 0
    assert report["groups"]["other"]["wer"]["mean"] == 1
    assert report["rows"][1]["error"] == f"b: no transcript of it in {theirs}"
    assert "der" not in report["metrics"]


def test_terms_are_told_and_scored(call, say, clips, monkeypatch) -> None:
    from multiway_asr.transcriber import Transcriber

    say()  # "Grüße, Anna." and "the audio"
    told: list[str] = []
    transcript = Transcriber.transcript
    monkeypatch.setattr(
        Transcriber,
        "transcript",
        lambda self, path, options: told.append(options.context) or transcript(self, path, options),
    )
    (clips / "contexts.json").write_text('{"a": "Anna, Audio\\nBob", "b": "the Bob, gruesse"}')
    code, out, _ = call("evaluate", clips, "--json")
    assert code == 0
    assert told == ["Anna, Audio, Bob", "the Bob, gruesse"]
    metrics = json.loads(out)["metrics"]
    assert metrics["terms"]["mean"] == pytest.approx(2 / 3)
    assert metrics["false_terms"]["mean"] == 0
    call("evaluate", clips, "--no-terms", "--context", "x")
    assert told[2:] == ["x", "x"]
    (clips / "contexts.json").write_text('{"a": 1}')
    assert "contexts.json: a: expected text" in call("evaluate", clips)[2]


def test_trouble_is_one_line(call, clips, tmp_path) -> None:
    for arguments, problem in {
        (tmp_path / "none",): "none: no such file or folder",
        (clips, clips): "two sets have the same name: clips, clips",
        (clips, "--hypotheses", tmp_path / "none"): "none: no such file or folder",
        (clips, "--hypotheses", clips, "--context", "Anna"): "are for transcribing",
    }.items():
        code, out, err = call("evaluate", *arguments)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert problem in err
    (clips / "a.flac").unlink()
    (clips / "b.flac").write_bytes(b"no sound")
    code, _, err = call("evaluate", clips)
    assert code == 2
    assert "all 2 samples failed, the first with: a: no recording of this name beside its reference" in err


def test_without_the_extra_it_says_what_is_missing(call, clips, monkeypatch) -> None:
    for name in list(sys.modules):
        if name.startswith("meeteval"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "meeteval", None)
    code, _, err = call("evaluate", clips, "--hypotheses", clips)
    assert code == 2
    assert "pip install 'multiway-asr[evaluation]' (meeteval needs a C++ compiler)" in err


def test_train_runs_the_recipe(call, monkeypatch, tmp_path) -> None:
    from dataclasses import replace

    from multiway_speech.vibevoice_asr import recipe

    small = replace(recipe.RECIPES["smoke"], conversations=8, held_out=2, pseudo_conversations=8)
    monkeypatch.setitem(recipe.RECIPES, "smoke", small)
    arguments = ("train", "--preset", "smoke", "--output", tmp_path / "run", "--steps", 1, "--text-steps", 0)
    code, out, err = call(*arguments, "--learning-rate", 1e-4, "--speaker-weight", 1)
    assert code == 0, err
    assert out.splitlines()[0] == str(tmp_path / "run" / "model")
    assert "held-out answer" in out
    assert (tmp_path / "run" / "model" / "whisper-pieces.json").is_file()
    assert "no such folder" in call("train", "--data", tmp_path / "x", "--output", tmp_path / "y")[2]
    assert (
        "unknown preset 'huge'; there are: tiny, smoke"
        in call("train", "--preset", "huge", "--output", "y")[2]
    )
    monkeypatch.setitem(sys.modules, "multiway_core.training", None)
    code, _, err = call("train", "--output", tmp_path / "z")
    assert code == 2
    assert "training needs multiway_core.training: pip install 'multiway-asr[training]'" in err


def test_sentences_of_brown_and_made_ones(call, tmp_path) -> None:
    (tmp_path / "brown").mkdir()
    tagged = "The/at weather/nn was/bedz fine/jj in/in the/at morning/nn ./."
    (tmp_path / "brown" / "ca01").write_text(tagged + "\n")
    (tmp_path / "cmudict.dict").write_text("zambrana Z AE0 M\nmorning M AO1 R\n")
    out = tmp_path / "sentences.txt"
    arguments = ("--brown", tmp_path / "brown", "--cmudict", tmp_path / "cmudict.dict", "--output", out)
    code, printed, err = call("data", "sentences", *arguments, "--count", 5)
    assert (code, printed) == (0, f"{out}\n1 sentences of Brown, 4 made\n"), err
    assert len(out.read_text().splitlines()) == 5
