"""Times of a teacher's phones become times of ours: three readings by the teachers, and words by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from multiway_speech.pronunciation import EnglishPronouncer
from multiway_speech.pronunciation.align import align, align_sentence


def entry(text: str, symbols: str, start: float, ends: str) -> dict[str, Any]:
    """A line of a teacher's manifest."""
    return {
        "text": text,
        "symbols": list(symbols),
        "start": start,
        "ends": [float(end) for end in ends.split()],
    }


# Kokoro's voices af_heart and bf_emma, and Piper's joe (speech_tokenizer.synthesize)
AMERICAN = entry(
    "After all, I didn't know you, Pete.",
    "ˈæftəɹɹ ˈɔl, I dˈɪdnt nˈO ju, pˈit.",
    0.35,
    (
        "0.425 0.475 0.525 0.55 0.575 0.6 0.625 0.675 0.75 0.85 0.95 1.0 1.05 1.075 1.1 1.125 1.15 1.175 1.2 "
        "1.225 1.25 1.275 1.3 1.35 1.4 1.45 1.5 1.55 1.575 1.625 1.675 1.75 1.85 2.15 2.3 "
    ),
)
BRITISH = entry(
    "Two interns and Dick Ishii, the other resident.",
    "tˈuː ˈɪntɜːnz and dˈɪk ˈɪʃɪˌI, ðɪ ˈʌðə ɹˈɛzɪdənt.",
    0.325,
    (
        "0.375 0.425 0.45 0.475 0.525 0.55 0.6 0.675 0.775 0.85 0.925 1.0 1.05 1.1 1.125 1.15 1.175 1.225 "
        "1.25 1.275 1.325 1.375 1.425 1.45 1.525 1.6 1.675 1.775 1.825 1.85 1.875 1.925 1.95 2.0 2.05 2.1 "
        "2.15 2.2 2.25 2.3 2.35 2.4 2.45 2.5 2.575 2.625 2.725 3.25 3.425 "
    ),
)
PIPER = entry(
    "Another man approached, this one fully dressed.",
    "ɐnˈʌðɚ mˈæn ɐpɹˈoʊtʃt, ðˈɪswˌʌn fˈʊli dɹˈɛst.",
    0.4296,
    (
        "0.476 0.5224 0.5921 0.6385 0.6618 0.7198 0.7779 0.8127 0.8824 0.9404 0.9868 1.0449 1.1378 1.1842 "
        "1.2307 1.2887 1.3584 1.4164 1.4861 1.5325 1.6138 1.7067 1.8924 1.9389 1.9853 2.0434 2.0782 2.1362 "
        "2.2059 2.2523 2.2872 2.3452 2.3684 2.4265 2.4729 2.5194 2.5658 2.6239 2.6819 2.7748 2.8677 2.9257 "
        "3.0302 3.1231 3.1811 "
    ),
)


def ends_of(reading: dict[str, Any]) -> list[tuple[str, float]]:
    aligned = align_sentence(reading, EnglishPronouncer())
    assert aligned is not None
    return aligned


@pytest.mark.parametrize("reading", [AMERICAN, BRITISH, PIPER])
def test_reading(reading: dict[str, Any]) -> None:
    aligned = ends_of(reading)
    assert [symbol for symbol, _ in aligned] == EnglishPronouncer()(reading["text"])
    ends = [reading["start"], *(end for _, end in aligned)]
    assert ends[-1] == reading["ends"][-1]
    for (symbol, _), (begin, end) in zip(aligned, pairwise(ends), strict=True):
        assert end > begin or symbol == "|", symbol


def test_a_mark_takes_the_pause_and_a_boundary_nothing() -> None:
    aligned = ends_of(AMERICAN)  # "After all, I didn't know you, Pete."
    symbols = [symbol for symbol, _ in aligned]
    comma = symbols.index(",")
    assert aligned[comma - 1] == ("L", 0.95)
    assert aligned[comma] == (",", 1.05)
    boundary = symbols.index("|")
    assert aligned[boundary][1] == aligned[boundary - 1][1]


def test_words_that_the_teacher_joins() -> None:
    """Piper says "this one" as one word; the boundary stands where the teacher's phones meet."""
    aligned = dict(enumerate(ends_of(PIPER)))
    place = next(i for i in aligned if aligned[i][0] == "W" and aligned[i - 1][0] == "|")
    assert aligned[place - 1][1] == aligned[place - 2][1] == 2.0782  # end of the S


def test_other_words() -> None:
    assert (
        align_sentence({**PIPER, "text": "Quite another sentence, and not this one."}, EnglishPronouncer())
        is None
    )


@pytest.mark.parametrize(
    ("letters", "ends", "phones", "expected"),
    [
        ("tˈuː", [1, 2, 3, 4], "T UW1", [1, 4]),  # stress and length belong to the vowel
        ("dʒˈaɪ", [1, 2, 3, 4, 5], "JH AY1", [2, 5]),  # two letters each
        ("ʤˈI", [1, 2, 3], "JH AY1", [1, 3]),  # one letter each
        ("ˈʌðə", [1, 2, 3, 4], "AH1 DH ER0", [2, 3, 4]),  # British
        ("kˈɑː", [1, 2, 3, 4], "K AA1 R", [1, 3, 4]),  # no R: it takes a third of the vowel's time
        ("ˈʌðəɹ", [1, 2, 3, 4, 5], "AH1 DH ER0", [2, 3, 5]),  # two phones for our one
        ("sˈɜːʔn̩li", [1, 2, 3, 4, 5, 6, 7, 8, 9], "S ER1 T AH0 N L IY0", [1, 4, 4.5, 5, 7, 8, 9]),
    ],
)
def test_word(letters: str, ends: list[float], phones: str, expected: list[float]) -> None:
    found = align(list(letters), [float(end) for end in ends], 0.0, phones.split())
    assert len(found) == len(expected)
    assert found[-1] == expected[-1]
    assert found == sorted(found)
    if "T AH0 N" not in phones:  # whose half the lost schwa takes is not fixed
        assert found == pytest.approx(expected)
