"""Transcripts as files, and their JSON schema."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import ConfigError, InputError
from multiway_speech.export import WRITERS, export
from multiway_speech.export.subtitles import srt, vtt
from multiway_speech.result import SCHEMA, Segment, Transcript

TRANSCRIPT = Transcript(
    source="my talk.wav",
    model="m",
    duration=3723.5,
    segments=(
        Segment(0.0, 1.25, 0, "Hello <all> & --> you."),
        Segment(1.25, 2.0, None, "[Music]"),
        Segment(3661.5, 3723.456, 12, "Grüße\tan\nalle."),
    ),
    language="de",
)


def test_each_format() -> None:
    assert export(TRANSCRIPT, "txt") == (
        "[0:00:00.00] Speaker 0: Hello <all> & --> you.\n[0:00:01.25] [Music]\n"
        "[1:01:01.50] Speaker 12: Grüße an alle.\n"
    )
    assert export(TRANSCRIPT, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,250\nSpeaker 0: Hello <all> & -> you.\n\n"
        "2\n00:00:01,250 --> 00:00:02,000\n[Music]\n\n"
        "3\n01:01:01,500 --> 01:02:03,456\nSpeaker 12: Grüße an alle.\n"
    )
    assert export(TRANSCRIPT, "vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\n<v Speaker 0>Hello &lt;all&gt; &amp; --&gt; you.\n\n"
        "00:00:01.250 --> 00:00:02.000\n[Music]\n\n01:01:01.500 --> 01:02:03.456\n<v Speaker 12>Grüße an alle.\n"
    )
    assert export(TRANSCRIPT, "tsv") == (
        "start\tend\tspeaker\ttext\n0\t1250\t0\tHello <all> & --> you.\n1250\t2000\t\t[Music]\n"
        "3661500\t3723456\t12\tGrüße an alle.\n"
    )
    assert export(TRANSCRIPT, "rttm") == (
        "SPEAKER my_talk 1 0.000 1.250 <NA> <NA> speaker0 <NA> <NA>\n"
        "SPEAKER my_talk 1 3661.500 61.956 <NA> <NA> speaker12 <NA> <NA>\n"
    )
    assert export(TRANSCRIPT, "stm") == (
        "my_talk 1 speaker0 0.000 1.250 Hello <all> & --> you.\n"
        "my_talk 1 speaker12 3661.500 3723.456 Grüße an alle.\n"
    )
    with pytest.raises(InputError, match="unknown format 'doc'; there are: txt, srt"):
        export(TRANSCRIPT, "doc")
    assert srt(TRANSCRIPT, ["Ann --> <b>"]).splitlines()[2] == "Ann -> <b>: Hello <all> & -> you."
    assert "\n<v Ann &lt;b&gt;>Hello" in vtt(TRANSCRIPT, ["Ann\n<b>"])
    assert "<v Speaker 12>" in vtt(TRANSCRIPT, ["Ann"])


def test_json_and_back(tmp_path) -> None:
    data = json.loads(export(TRANSCRIPT, "json"))
    assert list(data) == ["schema", "source", "model", "duration", "language", "segments", "problems"]
    assert data["schema"] == SCHEMA
    assert data["segments"][1] == {"start": 1.25, "end": 2.0, "speaker": None, "text": "[Music]"}
    assert Transcript.from_json(data) == TRANSCRIPT
    path = tmp_path / "t.json"
    path.write_text(TRANSCRIPT.dumps())
    assert Transcript.load(path) == TRANSCRIPT
    assert TRANSCRIPT.speakers == (0, 12)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema": "multiway.asr/2"}, "expected 'multiway.asr/1'"),
        (
            {"segments": [{"start": 2, "end": 1, "speaker": 0, "text": "a"}]},
            r"segments\[0\]: a segment from 2",
        ),
        ({"segments": [{"start": 0, "end": 1, "speaker": "A", "text": "a"}]}, r"segments\[0\].speaker"),
        ({"duration": None}, "duration"),
        ({"extra": 1}, "extra: unknown key"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(change, problem) -> None:
    with pytest.raises(ConfigError, match=problem):
        Transcript.from_json(TRANSCRIPT.to_json() | change)


SEGMENTS = st.builds(
    lambda start, length, speaker, text: Segment(start, start + length, speaker, text),
    st.floats(0, 1e5),
    st.floats(0, 1e4),
    st.none() | st.integers(0, 99),
    st.text(),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(SEGMENTS, max_size=4), st.text(max_size=20))
def test_every_transcript_can_be_written(segments, source) -> None:
    transcript = Transcript(source, "m", 1.0, tuple(segments))
    for format_ in WRITERS:
        text = export(transcript, format_)
        speaking = [s for s in segments if s.speaker is not None]
        counts = {"txt": len(segments), "tsv": len(segments) + 1, "rttm": len(speaking), "stm": len(speaking)}
        if format_ in counts:
            assert text.count("\n") == counts[format_] == len(text.splitlines())
        if format_ in ("srt", "vtt"):
            assert text.count(" --> ") == len(segments)
