"""``multiway-asr transcribe``: formats, several recordings, folders, going on, and every kind of trouble."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from multiway_core.app import ModelOptions
from multiway_speech.result import Transcript

from apps.asr.tests.conftest import FIRST, SAID, SECOND

SHOWN = "[0:00:00.00] Speaker 0: Grüße, Anna.\n[0:00:00.50] Speaker 1: the audio\n"


def test_text_and_facts(call, say, talk) -> None:
    say()
    code, out, err = call("transcribe", talk)
    assert (code, out) == (0, SHOWN)
    (fact,) = err.splitlines()
    assert fact.startswith(f"multiway-asr: {talk}: 2.0 s, 2 segments, 2 speakers, in ")
    assert "RTF 0." in fact or "RTF" in fact


def test_segments_are_printed_while_they_are_written(say, talk, model_folder, monkeypatch) -> None:
    from multiway_asr import batch
    from multiway_asr.transcriber import TranscribeOptions, Transcriber

    say()
    shown: list[str] = []
    monkeypatch.setattr(batch, "write_stdout", shown.append)
    transcriber = Transcriber(ModelOptions(str(model_folder)))
    arguments = {"formats": [batch.Format.TXT], "output": None, "resume": False}
    assert batch.transcribe_all([str(talk)], transcriber, TranscribeOptions(), **arguments) == 0
    assert shown == SHOWN.splitlines(keepends=True)


@pytest.mark.parametrize("format_", ["txt", "srt", "vtt", "tsv", "json", "rttm", "stm"])
def test_every_format_printed_and_as_file(call, say, talk, tmp_path, format_) -> None:
    say()
    code, out, _ = call("transcribe", talk, "--format", format_)
    assert code == 0
    assert "Anna" in out or format_ == "rttm"
    assert call("transcribe", talk, "-f", format_, "-o", tmp_path / "out")[:2] == (0, "")
    assert (tmp_path / "out" / f"talk.{format_}").read_text() == out
    if format_ == "json":
        transcript = Transcript.from_json(json.loads(out))
        assert (transcript.source, transcript.duration, len(transcript.segments)) == ("talk.wav", 2.0, 2)


def test_several_recordings(call, say, talk, tmp_path) -> None:
    say()
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    other = tmp_path / "other.wav"
    other.write_bytes(talk.read_bytes())
    code, out, err = call("transcribe", talk, tmp_path / "bad.wav", other)
    assert code == 1
    assert out == f"talk.wav:\n{SHOWN}\nother.wav:\n{SHOWN}"
    assert "bad.wav: not a sound file that can be read" in err
    code, out, _ = call("transcribe", talk, other, "--format", "json")
    assert [item["source"] for item in json.loads(out)] == ["talk.wav", "other.wav"]
    code, out, err = call("transcribe", talk, other, "--format", "srt")
    assert (code, out) == (2, "")
    assert err == "multiway-asr: --format srt of 2 recordings needs --output DIR\n"


def test_a_folder_is_gone_through_and_on(call, say, talk, tmp_path) -> None:
    say()
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.wav", "deep/b.flac", "deep/c.mp3"):
        soundfile.write(folder / name, soundfile.read(talk)[0], 16_000)
    (folder / "notes.doc").write_text("not a recording")
    code, _, err = call("transcribe", folder, "-o", out, "-f", "srt", "-f", "json")
    assert code == 0
    assert err.splitlines()[-1] == f"multiway-asr: 3 written to {out}"
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    assert {str(path.relative_to(out)) for path in written} == {
        f"{name}.{format_}" for name in ("a", "deep/b", "deep/c") for format_ in ("srt", "json")
    }
    (out / "deep" / "c.srt").unlink()
    code, _, err = call("transcribe", folder, "-o", out, "-f", "srt", "-f", "json", "--resume")
    assert err.splitlines()[-1] == f"multiway-asr: 1 written to {out}, 2 were there already"
    for path, when in written.items():
        assert path.name in ("c.srt", "c.json") or path.stat().st_mtime_ns == when
    (folder / "a.wav").touch()
    assert "1 written" in call("transcribe", folder, "-o", out, "-f", "srt", "--resume")[2]


class Interruption:
    """Stops the run behind the first segment, with an exception."""

    def __init__(self, monkeypatch, error: BaseException) -> None:
        from multiway_asr.incremental_writer import IncrementalWriter

        add = IncrementalWriter.add

        def stopped(files, segment) -> None:
            add(files, segment)
            raise error

        monkeypatch.setattr(IncrementalWriter, "add", stopped)


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(call, say, talk, tmp_path, monkeypatch) -> None:
    say()
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        Interruption(patch, KeyboardInterrupt())
        code, _, err = call("transcribe", talk, "-o", out, "-f", "txt", "-f", "json")
    assert code == 130
    lines = err.splitlines()
    partial = (
        f"{out}/talk.partial.txt, {out}/talk.partial.json: partial, the first 1 segment, until 0:00:00.50"
    )
    assert lines == [f"multiway-asr: {partial}", "multiway-asr: interrupted"]
    assert sorted(path.name for path in out.iterdir()) == ["talk.partial.json", "talk.partial.txt"]
    assert (out / "talk.partial.txt").read_text() == SHOWN.splitlines(keepends=True)[0]
    kept = Transcript.load(out / "talk.partial.json")
    assert kept.problems == ("the transcription was stopped before its end",)
    assert kept.duration == 2.0
    code, _, err = call("transcribe", talk, "-o", out, "-f", "txt", "-f", "json", "--resume")
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == ["talk.json", "talk.txt"]


def test_partial_files_appear_while_the_model_writes(call, say, talk, tmp_path, monkeypatch) -> None:
    from multiway_asr import incremental_writer

    say()
    seen: list[str] = []
    finish = incremental_writer.IncrementalWriter.finish

    def look(files, transcript) -> None:
        seen.append(Path(tmp_path / "out" / "talk.partial.txt").read_text())
        finish(files, transcript)

    monkeypatch.setattr(incremental_writer, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(incremental_writer.IncrementalWriter, "finish", look)
    assert call("transcribe", talk, "-o", tmp_path / "out")[0] == 0
    assert seen == [SHOWN]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["talk.txt"]


def test_a_full_disk_is_said_and_ends_the_run(call, say, talk, tmp_path, monkeypatch) -> None:
    from multiway_core import files

    say()
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(
        files.os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))
    )
    code, _, err = call("transcribe", talk, talk.parent, "-o", out)
    assert code == 2
    problem = rf"multiway-asr: cannot write {out}/talk\.(partial\.)?txt: no space left on device"
    assert re.fullmatch(problem, err.splitlines()[-1])  # on a slow machine a partial file comes first
    assert list(out.iterdir()) == []


def test_a_disk_that_fills_up_later_leaves_the_partial_files(
    say, talk, tmp_path, monkeypatch, model_folder, capsys
) -> None:
    from multiway_asr import batch, incremental_writer
    from multiway_asr.transcriber import TranscribeOptions, Transcriber
    from multiway_core.errors import OutputError

    say()
    writes: list[str] = []
    write = incremental_writer.write_text

    def full_after_the_first(path, text) -> None:
        writes.append(path.name)
        if len(writes) > 1:
            raise OutputError(f"cannot write {path}: no space left on device")
        write(path, text)

    monkeypatch.setattr(incremental_writer, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(incremental_writer, "write_text", full_after_the_first)
    arguments = {"formats": [batch.Format.TXT], "output": tmp_path / "out", "resume": False}
    with pytest.raises(OutputError, match="no space left on device"):
        batch.transcribe_all(
            [str(talk)], Transcriber(ModelOptions(str(model_folder))), TranscribeOptions(), **arguments
        )
    assert (tmp_path / "out" / "talk.partial.txt").read_text() == SHOWN.splitlines(keepends=True)[0]
    assert "talk.partial.txt: partial, the first 1 segment, until 0:00:00.50" in capsys.readouterr().err


def test_at_most_so_many_speakers(call, say, talk) -> None:
    say()
    code, out, err = call("transcribe", talk, "--max-speakers", 1)
    assert (code, out) == (0, SHOWN.replace("Speaker 1", "Speaker 0"))
    assert "1 speaker," in err
    assert call("transcribe", talk, "--max-speakers", 0)[0] == 2


def test_the_context_reaches_the_prompt(call, say, talk, tmp_path, monkeypatch) -> None:
    from multiway_speech.vibevoice_asr import pipeline

    say()
    contexts: list[str] = []
    write = pipeline.write_prompt

    def written(tokenizer, tokens, frames, duration, context):
        if frames:  # none: how long a recording may be
            contexts.append(context)
        return write(tokenizer, tokens, frames, duration, context)

    monkeypatch.setattr(pipeline, "write_prompt", written)
    assert call("transcribe", talk, "--context", " Anna Kovács, Multiway ")[0] == 0
    (tmp_path / "names.txt").write_bytes("\ufeffAnna\nMultiway\n".encode())
    assert call("transcribe", talk, "--context", f"@{tmp_path}/names.txt")[0] == 0
    assert contexts == ["Anna Kovács, Multiway", "Anna\nMultiway"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read the file: no such file or directory"),
        (b"\xff\xfe\x00a", "not a text file (UTF-8)"),
        (b"PK\x03\x04\x00\x00", "not a text file, it holds control characters"),
        (b"name, " * 5000, "29,999 characters; at most 20,000 are taken"),
        (b"name, " * 50_000, "the file is larger than 100 kB"),
        (b" \n", "it is empty"),
    ],
)
def test_bad_context(call, talk, tmp_path, content, problem) -> None:
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    code, out, err = call("transcribe", talk, "--context", f"@{path}")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert problem in err


def write_mp4(path: Path, samples: np.ndarray | None) -> None:
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=16_000) if samples is not None else None
        for index in range(10):
            picture = np.full((64, 64, 3), index * 20, dtype=np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            frame.sample_rate = 16_000
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
        container.mux(video.encode(None))


def test_recordings_of_all_kinds(call, say, tmp_path, noise) -> None:
    say()
    soundfile.write(tmp_path / "eight.wav", noise(2, 8000), 8000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([noise(2), -0.5 * noise(2)], axis=1), 16_000)
    soundfile.write(tmp_path / "float.wav", noise(2, 48_000), 48_000, subtype="FLOAT")
    write_mp4(tmp_path / "video.mp4", noise(2))
    code, out, err = call("transcribe", tmp_path)
    assert code == 0
    assert out.count(SHOWN) == 4
    assert len(err.splitlines()) == 4  # no complaint


def test_silence_and_clipping_are_said(call, say, tmp_path) -> None:
    say("[]")
    soundfile.write(tmp_path / "silence.wav", np.zeros(32_000), 16_000)
    soundfile.write(tmp_path / "clipped.wav", np.sign(np.sin(np.arange(32_000) / 9.0)), 16_000)
    code, out, err = call("transcribe", tmp_path / "silence.wav")
    assert (code, out) == (0, "")
    assert "silence.wav: the recording is silent or nearly so\n" in err
    assert "of the samples are clipped" in call("transcribe", tmp_path / "clipped.wav")[2]


def test_bad_recordings_are_one_line(call, tmp_path, noise) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("no sound at all\n" * 100)
    (tmp_path / "noise.xyz").write_bytes(noise(1).tobytes())
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "short.wav", noise(0.05), 16_000)
    soundfile.write(tmp_path / "good.flac", noise(2), 16_000)
    (tmp_path / "damaged.flac").write_bytes((tmp_path / "good.flac").read_bytes()[:900])
    write_mp4(tmp_path / "mute.mp4", None)
    (tmp_path / "documents").mkdir()
    for name, problem in {
        "none.wav": "no such file or folder",
        "empty.wav": "not a sound file that can be read",
        "text.mp3": "",
        "noise.xyz": "not a sound file that can be read",
        "nothing.wav": "",
        "short.wav": "0.05 s of sound; there must be at least 0.1 s",
        "damaged.flac": "",
        "mute.mp4": "there is no sound in this file",
        "documents": "the folder holds no file of .3gp, .aac",
    }.items():
        code, out, err = call("transcribe", tmp_path / name)
        assert (code, out) == (2, ""), name
        assert len(err.splitlines()) == 1, err
        assert name in err
        assert problem in err


def test_what_is_too_long_for_one_pass_is_heard_in_parts(call, say, tmp_path, noise) -> None:
    say()
    soundfile.write(tmp_path / "long.ogg", noise(125, 8000), 8000)
    code, out, err = call("transcribe", tmp_path / "long.ogg")
    assert code == 0
    assert "long.ogg: 125.0 s" in err
    assert len(out.splitlines()) >= 12  # two a part of 20 s


def test_longer_recordings_are_heard_in_parts(call, say, tmp_path, noise) -> None:
    say()
    soundfile.write(tmp_path / "long.wav", noise(30, 8000), 8000)
    code, out, err = call("transcribe", tmp_path / "long.wav", "--window", 12)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == SHOWN.splitlines()[0]
    assert len(lines) >= 6
    assert lines[-1].endswith(": the audio")
    assert "30.0 s" in err
    code, _, err = call("transcribe", tmp_path / "long.wav", "--window", 500)
    assert code == 2
    assert "a window of 500 s;" in err


def test_options_that_contradict(call, talk, tmp_path) -> None:
    (tmp_path / "file").touch()
    for arguments, problem in {
        ("--resume",): "--resume needs the folder of the interrupted run: --output DIR",
        ("-f", "srt", "-f", "vtt"): "several formats need --output DIR",
        ("-f", "docx"): "docx",
        ("-o", tmp_path / "file"): "is a file; give a folder",
        ("--model", "bundled:none"): "none",
        ("--model", tmp_path): "no config.json",
        ("--device", "tpu"): "expected cpu, cuda",
    }.items():
        code, out, err = call("transcribe", talk, *arguments)
        assert (code, out) == (2, ""), arguments
        assert len(err.splitlines()) == 1
        assert problem in err


def test_what_the_model_left_open_is_said(call, say, talk) -> None:
    say(SAID[:-20])
    code, out, err = call("transcribe", talk)
    assert (code, out) == (0, SHOWN.splitlines(keepends=True)[0])
    assert "talk.wav: the list of segments is cut off after 1 and a part of one\n" in err
    say(f"[{FIRST},{SECOND}]")
    assert call("transcribe", talk)[1] == SHOWN


def test_help_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, multiway_asr.cli; sys.exit(any(m in sys.modules for m in ('torch', 'gradio', 'av')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=250).returncode == 0
