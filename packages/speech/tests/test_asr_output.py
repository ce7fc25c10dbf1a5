"""What the recognizer writes: read strictly, as a stream, whatever it is; and its loops."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_speech.result import Segment
from multiway_speech.vibevoice_asr.output import SegmentReader, parse_output
from multiway_speech.vibevoice_asr.repetition import find_repetition

GOOD = (
    'assistant\n[{"Start":0.0,"End":2.56,"Speaker":0,"Content":"Hello, \\"you\\"."},'
    '{"Start":2.56,"End":4,"Content":"[Music]"},{"Start":4.0,"End":5.5,"Speaker":1,"Content":"你好。"}]\n'
)


def test_segments() -> None:
    segments, problems = parse_output(GOOD, 10.0)
    assert segments == [
        Segment(0.0, 2.56, 0, 'Hello, "you".'),
        Segment(2.56, 4.0, None, "[Music]"),
        Segment(4.0, 5.5, 1, "你好。"),
    ]
    assert problems == []
    assert parse_output("[]", 1.0) == ([], [])


def test_older_keys_and_numbers_as_text() -> None:
    text = '[{"Start time": "1.5", "End time": "2", "Speaker ID": "3", "Content": " a\\n b "}]'
    assert parse_output(text, 9.0) == ([Segment(1.5, 2.0, 3, "a b")], [])


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_a_cut_output_keeps_its_whole_segments(cut: int) -> None:
    segments, problems = parse_output(GOOD[:cut], 10.0)
    assert len(segments) == GOOD[:cut].count("}")
    assert bool(problems) == ("]\n" not in GOOD[:cut] and not GOOD[:cut].endswith('"}]'))


@pytest.mark.parametrize(
    ("text", "count", "problem"),
    [
        ("", 0, "the model wrote nothing"),
        ("I cannot do that.", 0, "no list of segments, but 'I cannot"),
        ('{"Start":0}', 0, "no list of segments"),
        ('[{"Start":0,"End":1,"Speaker":0}]', 0, "segment 1 is left out: it has no text"),
        ('[{"Start":"soon","End":1,"Content":"a"}]', 0, "segment 1 is left out: it has no start and end"),
        ('[{"Start":1e999,"End":2,"Content":"a"}]', 0, "no start and end"),
        ('[{"Start":NaN,"End":2,"Content":"a"}]', 0, "cut off after 0 and a part of one"),
        ('[{"Start":3,"End":2,"Content":"a"}]', 0, "lies from 3 s to 2 s of 10 s"),
        ('[{"Start":30,"End":32,"Content":"a"}]', 0, "lies from 30 s to 32 s of 10 s"),
        ('[{"Start":3,"End":32,"Content":"a"}]', 1, "segment 1: ends at 32 s of 10 s"),
        ('[{"Start":3,"End":4,"Content":"a","Speaker":-1}]', 1, "segment 1: its speaker is not a number"),
        ('[{"Start":3,"End":4,"Content":"a","Speaker":true}]', 1, "its speaker is not a number"),
        ('[{"Start":3,"End":4,"Content":"a","Mood":"b"}]', 1, "segment 1: unknown key 'Mood'"),
        ('[{"Start":3,"End":4,"Content":"a"}, 7, {"Start":3,"End":4,"Content":"a"}]', 1, "segment 2 is no object"),
        ('[{"Start":3,"End":4,"Content":"a"}] Thanks!', 1, "more behind the list"),
        ("[[" * 50_000 + "]", 0, "segment 1 is no object"),
        ('[{"a":' + "[" * 100_000, 0, "cut off after 0 and a part of one"),
    ],
)  # fmt: skip
def test_problems_are_named(text: str, count: int, problem: str) -> None:
    segments, problems = parse_output(text, 10.0)
    assert len(segments) == count
    assert problem in problems[0]


def test_many_problems_stay_few() -> None:
    segments, problems = parse_output("[" + ",".join(["{}"] * 1000) + "]", 10.0)
    assert segments == []
    assert len(problems) == 20


ITEM = st.fixed_dictionaries(
    {},
    optional={
        "Start": st.floats() | st.integers() | st.text(),
        "End": st.floats() | st.integers() | st.text(),
        "Speaker": st.integers() | st.text() | st.none(),
        "Content": st.text() | st.integers(),
        "Speaker ID": st.integers(),
    },
)
FRAGMENTS = st.sampled_from(
    ['[', ']', '{', '}', '"Start":', '"End":1', '"Content":"a"', ',', "assistant", "\n", "1e999", "\\", '"', "💥"]
)  # fmt: skip
OUTPUTS = st.one_of(
    st.text(),
    st.lists(ITEM).map(json.dumps),
    st.lists(FRAGMENTS, max_size=30).map("".join),
    st.tuples(st.just(GOOD), st.integers(0, len(GOOD)), st.text(max_size=5)).map(
        lambda t: t[0][: t[1]] + t[2]
    ),
)


@settings(max_examples=400, deadline=None)
@given(OUTPUTS, st.floats(0, 1e5), st.integers(1, 9))
def test_any_output_is_read_and_pieces_equal_the_whole(text: str, duration: float, size: int) -> None:
    segments, problems = parse_output(text, duration)
    for segment in segments:
        assert 0 <= segment.start <= segment.end <= duration
        assert segment.text == " ".join(segment.text.split())
    assert all(problem for problem in problems)
    reader, streamed = SegmentReader(duration), []
    for start in range(0, len(text), size):
        streamed += reader.feed(text[start : start + size])
    assert sorted(streamed, key=lambda s: (s.start, s.end)) == segments
    assert reader.segments == streamed


def test_rewinding_forgets_segments_behind_a_place() -> None:
    reader = SegmentReader(10.0)
    reader.feed(GOOD[:-2] + ', {"Start":5.5')
    assert len(reader.segments) == 3
    reader.rewind(len(reader.text))
    assert reader.text == GOOD[:-2]
    reader.rewind(GOOD.index("[Music]"))
    assert [s.text for s in reader.segments] == ['Hello, "you".']
    more = reader.feed(',{"Start":3.0,"End":4.0,"Speaker":2,"Content":"again"}]')
    reader.finish()
    assert [s.speaker for s in more] == [2]
    assert reader.problems == []


def test_loops_are_found_and_ordinary_text_is_not() -> None:
    head = '[{"Start":0.0,"End":9.0,"Speaker":0,"Content":"Well, '
    looping = head + "and then he said " * 10
    assert find_repetition(looping) == len(head) + len("and then he said ")
    assert find_repetition(looping[:-20]) is None
    assert find_repetition(head + "ha " * 60) is not None
    segments = [f'{{"Start":{i}.25,"End":{i}.75,"Speaker":1,"Content":"Mm-hmm."}},' for i in range(10, 40)]
    assert find_repetition("[" + "".join(segments[:9])) is None
    text = "[" + "".join(segments)
    place = find_repetition(text)
    assert place is not None
    assert text[place - 2 :].startswith("},{") or text[place - 1] == "," or text[place - 1] == "["
    assert find_repetition(head + " ".join(map(str, range(200)))) is None  # somebody counts
    assert find_repetition("") is None
