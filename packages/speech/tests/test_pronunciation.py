"""English text to phones: the dictionary, words by their parts, weak forms, words said in two ways."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_speech.pronunciation import SYMBOLS, EnglishPronouncer
from multiway_speech.pronunciation.derived import derive
from multiway_speech.pronunciation.lexicon import entries, look_up
from multiway_speech.pronunciation.normalize import normalize
from multiway_speech.pronunciation.phones import BOUNDARY, MARKS


@pytest.fixture(scope="module")
def pronouncer() -> EnglishPronouncer:
    return EnglishPronouncer()


def said(pronouncer: EnglishPronouncer, text: str) -> str:
    return " ".join(pronouncer(text))


def test_symbols_never_change() -> None:
    """A model's weights stand in this order."""
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 77
    assert SYMBOLS[:10] == ("|", ",", ".", "?", "!", ";", ":", "-", "B", "CH")
    assert SYMBOLS[32:38] == ("AA0", "AA1", "AA2", "AE0", "AE1", "AE2")
    assert SYMBOLS[-1] == "UW2"


def test_dictionary_holds_only_symbols() -> None:
    assert len(entries()) > 135_000
    assert {phone for phones in entries().values() for phone in phones.split()} <= set(SYMBOLS)


def test_sentence(pronouncer: EnglishPronouncer) -> None:
    assert said(pronouncer, "Be our guest!") == "B IY0 | AW0 ER0 | G EH1 S T !"
    assert said(pronouncer, "Hello, world") == "HH AH0 L OW1 , W ER1 L D ."
    assert said(pronouncer, "The FBI.") == "DH IY0 | EH1 F B IY1 AY1 ."


def test_words(pronouncer: EnglishPronouncer) -> None:
    words = pronouncer.words("Dr. Who, 42!")
    assert [(word.written, word.mark) for word in words] == [
        ("doctor", ""), ("who", ","), ("forty", ""), ("two", "!")
    ]  # fmt: skip
    symbols = [symbol for word in words for symbol in (*word.phones, word.mark or BOUNDARY)]
    assert symbols == pronouncer("Dr. Who, 42!")


def test_weak_forms(pronouncer: EnglishPronouncer) -> None:
    assert said(pronouncer, "the end of the day") == "DH IY0 | EH1 N D | AH0 V | DH AH0 | D EY1 ."
    assert said(pronouncer, "to go to it") == "T AH0 | G OW1 | T UW0 | IH1 T ."
    assert said(pronouncer, "What for?").endswith("F AO1 R ?")  # stressed before a mark


@pytest.mark.parametrize(
    ("text", "word", "phones"),
    [
        ("They record a song.", 1, "R AH0 K AO1 R D"),
        ("A record was set.", 1, "R EH1 K ER0 D"),
        ("I will read it.", 2, "R IY1 D"),
        ("He read it.", 1, "R EH1 D"),
        ("Close the door!", 0, "K L OW1 Z"),
        ("They were close.", 2, "K L OW1 S"),
        ("We live here.", 1, "L IH1 V"),
        ("A live show.", 1, "L AY1 V"),
        ("The lead pipe.", 1, "L EH1 D"),
        ("They lead us.", 1, "L IY1 D"),
        ("The wind blew.", 1, "W IH1 N D"),
        ("No use at all.", 1, "Y UW1 S"),
        ("Use it.", 0, "Y UW1 Z"),
    ],
)
def test_heteronyms(pronouncer: EnglishPronouncer, text: str, word: int, phones: str) -> None:
    assert " ".join(pronouncer.words(text)[word].phones) == phones


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("reeked", "R IY1 K T"),
        ("clanged", "K L AE1 NG D"),
        ("shrilling", "SH R IH1 L IH0 NG"),
        ("heaviness", "HH EH1 V IY0 N AH0 S"),
        ("catastrophically", "K AE2 T AH0 S T R AA1 F IH0 K L IY0"),
        ("unhitched", "AH0 N HH IH1 CH T"),
        ("clothbound", "K L AO1 TH B AW2 N D"),
    ],
)
def test_words_of_known_parts(word: str, phones: str) -> None:
    assert look_up(word) is None
    assert " ".join(derive(word, look_up) or ()) == phones


def test_contractions(pronouncer: EnglishPronouncer) -> None:
    assert pronouncer.pronounce("somebody'll")[-2:] == ("AH0", "L")
    assert pronouncer.pronounce("buzz's")[-2:] == ("IH0", "Z")
    assert pronouncer.pronounce("U's") == ("Y", "UW1", "Z")


def test_letters_without_a_vowel_are_spelt(pronouncer: EnglishPronouncer) -> None:
    assert pronouncer.pronounce("xkcd") == ("EH1", "K", "S", "K", "EY1", "S", "IY1", "D", "IY1")


def test_drawn_out_words(pronouncer: EnglishPronouncer) -> None:
    assert pronouncer.pronounce("noooo") == pronouncer.pronounce("no")
    assert pronouncer.pronounce("hmmmm") == pronouncer.pronounce("hmm")


def test_a_very_long_word_takes_time_by_its_length(pronouncer: EnglishPronouncer) -> None:
    def seconds(copies: int) -> float:
        start = time.process_time()
        pronouncer("trabokvi" * copies)
        return time.process_time() - start

    seconds(2)
    assert seconds(400) < 12 * seconds(100) + 0.1


@pytest.mark.parametrize("text", ["", "  \n", "😀", "Привет, мир!", "?!"])
def test_nothing_to_say(pronouncer: EnglishPronouncer, text: str) -> None:
    with pytest.raises(InputError, match="there is nothing to say"):
        pronouncer(text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.text("abcdefgXYZ '-.12", max_size=40))
def test_any_text(text: str) -> None:
    if not normalize(text):
        with pytest.raises(InputError, match=r"^there is nothing to say in .*$"):
            EnglishPronouncer()(text)
        return
    symbols = EnglishPronouncer()(text)
    parting = {BOUNDARY, *MARKS}
    assert set(symbols) <= set(SYMBOLS)
    assert symbols[0] not in parting
    assert symbols[-1] in MARKS
    assert not any(a in parting and b in parting for a, b in pairwise(symbols))
