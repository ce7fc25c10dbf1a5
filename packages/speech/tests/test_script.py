"""The script format: what is read, what is refused and with which line, and that nothing else can happen."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_speech.script import MAX_WORD, Script, Turn, parse_script


def turns(source: str, **options) -> list[tuple[str, str, int]]:
    script = parse_script(source, **options)
    return [(script.speakers[turn.speaker], turn.text, turn.pause_ms) for turn in script.turns]


def test_turns_and_their_speakers() -> None:
    script = parse_script(
        "\ufeffSpeaker 2: Hi there.\n\nspeaker 1:  Hello!\nHow are you?\r\nSPEAKER 2 : Fine.\n"
    )
    assert script.speakers == ("Speaker 1", "Speaker 2")  # by number, not by first turn
    assert script.turns == (
        Turn(1, "Hi there.", line=1),
        Turn(0, "Hello! How are you?", line=3),
        Turn(1, "Fine.", line=5),
    )


def test_a_text_without_names_is_one_speaker() -> None:
    assert turns("Just a text: with a colon.\nAnd more.") == [
        ("Speaker 1", "Just a text: with a colon. And more.", 0)
    ]


def test_names_of_voices() -> None:
    assert turns("Alice: Hi.\nbob: Hello.\nALICE：Bye, so: long.", voices=["Bob", "Alice"]) == [
        ("Alice", "Hi.", 0),
        ("Bob", "Hello.", 0),
        ("Alice", "Bye, so: long.", 0),
    ]
    with pytest.raises(InputError, match="line 2: no voice is called 'Carol'; there are: Alice"):
        parse_script("Alice: Hi.\nCarol: Ho.", voices=["Alice"])


def test_pauses() -> None:
    script = parse_script("Speaker 1: One. [pause:500ms] Two.[ Pause : 1.5s ]\nSpeaker 2: Three. [pause:2s]")
    assert [(t.text, t.pause_ms) for t in script.turns] == [("One.", 0), ("Two.", 500), ("Three.", 1500)]
    assert script.final_pause_ms == 2000
    assert [[t.text for t in section] for section in script.sections()] == [["One."], ["Two."], ["Three."]]
    assert parse_script("[pause:100ms] Go.").turns[0].pause_ms == 100
    assert turns("Speaker 1: Hm.\nSpeaker 2: [pause:1s]\nSpeaker 1: Well.")[1] == ("Speaker 1", "Well.", 1000)


def test_json() -> None:
    source = json.dumps([{"speaker": 2, "text": "Hi."}, {"speaker": "Ann", "text": "Ho. [pause:1s] Hum."}])
    assert turns(source) == [("Speaker 2", "Hi.", 0), ("Ann", "Ho.", 0), ("Ann", "Hum.", 1000)]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "nothing to speak"),
        (" \n\t\n", "nothing to speak"),
        ("Speaker 1: Hi.\nSpeaker 2:   \n", "line 2: Speaker 2 says nothing"),
        ("Speaker 1: 🎉🎉!", "line 1: nothing in what Speaker 1 says can be spoken"),
        (f"Speaker 1: so {'a' * 5000}", "line 1: a word of 5,000 characters; at most 100"),
        (
            "\n".join(f"Speaker {i}: hi" for i in range(9)),
            "9 speakers .*; the model has voices for at most 4",
        ),
        ("Speaker 1: a [pause:5] b", r"line 1: '\[pause:5\]' is not a pause; write \[pause:500ms\]"),
        ("Speaker 1: a [pause:900s] b", "line 1: a pause of 900 s; at most 60 s"),
        ("Speaker 1: a [pause:40s] [pause:40s]", "line 1: a pause of 80 s; at most 60 s"),
        ('[{"speaker": 1}]', "item 1 of the JSON list"),
        ('["a"]', "item 1 of the JSON list"),
        ('[{"speaker": true, "text": "a"}]', "item 1: the speaker is neither"),
        ('[{"speaker": 1, "text": " "}]', "line 1: Speaker 1 says nothing"),
    ],
)
def test_what_cannot_be_spoken_is_one_clear_line(source: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as error:
        parse_script(source)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_emoji_beside_words_and_languages_without_spaces() -> None:
    assert turns("Speaker 1: Great 🎉 news\u0000!")[0][1] == "Great 🎉 news !"
    assert len(turns("Speaker 1: " + "今天天气很好" * 40)[0][1]) == 240


def test_long_turns_are_cut_behind_sentences() -> None:
    text = "One sentence here. Another one follows! 今天好。明天呢？ And a last?"
    script = parse_script(f"Speaker 1: {text} [pause:1s] Next.").split(40)
    assert [t.text for t in script.turns] == [
        "One sentence here. Another one follows!",
        "今天好。 明天呢？ And a last?",
        "Next.",
    ]
    assert [t.pause_ms for t in script.turns] == [0, 0, 1000]
    marks = parse_script("Speaker 1: Twenty characters here。:").split(23)
    assert [t.text for t in marks.turns] == ["Twenty characters here。 :"]  # no turn of a mark alone
    endless = parse_script("Speaker 1: " + "word " * 300)
    parts = [turn.text for turn in endless.split(50).turns]
    assert max(map(len, parts)) <= 50  # one long sentence is cut between words
    assert " ".join(parts) == endless.turns[0].text


def check(script: Script, max_speakers: int) -> None:
    assert 1 <= len(script.speakers) <= max_speakers
    assert script.turns
    for turn in script.turns:
        assert 0 <= turn.speaker < len(script.speakers)
        assert turn.text == " ".join(turn.text.split())
        assert any(c.isalnum() for c in turn.text)
        assert turn.pause_ms >= 0


PIECES = st.sampled_from(
    ["Speaker 1:", "Speaker 99:", "speaker 2 :", "Bob:", "[pause:500ms]", "[pause:", "[", "]", ":", "\n", "\r", " ",
     "hi", "ß", "你好。", "🎉", "\u0000", "\ud800", "\u2028", "x" * (MAX_WORD + 1), '[{"text": "a"}]', "1e999", "NaN"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join)), st.sampled_from([(), ("Bob", "Ann")])
)
def test_any_text_is_a_script_or_an_input_error(source: str, voices: tuple[str, ...]) -> None:
    try:
        script = parse_script(source, voices=voices)
    except InputError:
        return
    check(script, 4)
    check(script.split(20), 4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["speaker", "text", "x"]), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, min_size=1))
def test_any_json_list_is_a_script_or_an_input_error(data) -> None:
    with contextlib.suppress(InputError):
        check(parse_script(json.dumps(data)), 4)
