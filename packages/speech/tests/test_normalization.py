"""What is said of written English: numbers, dates, money, addresses, abbreviations, any Unicode, in linear time."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_speech.pronunciation.normalize import fold, normalize
from multiway_speech.pronunciation.numbers import cardinal, fraction, number, ordinal, year


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It cost $3.50.", "it cost three dollars and fifty cents ."),
        (
            "$5 million, €1.00, £0.99, $2.5bn",
            "five million dollars , one euro , ninety nine pence , two point five billion dollars .",
        ),
        ("12.5% of 1,234", "twelve point five percent of one thousand two hundred thirty four ."),
        ("at 7:30 pm or 9 a.m. or 14:05", "at seven thirty P M or nine A M or fourteen oh five ."),
        ("It is 3:00. Go at 5 p.m. He left.", "it is three o'clock . go at five P M . he left ."),
        ("on March 3, 2020", "on march third , twenty twenty ."),
        ("the 5th of May 1999", "the fifth of may , nineteen ninety nine ."),
        ("2024-03-15 and 3/4/21", "march fifteenth , twenty twenty four and march fourth , twenty one ."),
        ("the 1980s, the '90s, the 2000s", "the nineteen eighties , the nineties , the two thousands ."),
        ("1905 2005 1066 2024", "nineteen oh five two thousand five one thousand sixty six twenty twenty four ."),
        ("(555) 123-4567", "five five five , one two three , four five six seven ."),
        ("+44 20 7946 0958", "four four , two zero , seven nine four six , zero nine five eight ."),
        (
            "5 km, 1 ft, 60 mph, 5 m², 20 °C",
            "five kilometers , one foot , sixty miles per hour , five square meters , twenty degrees celsius .",
        ),
        (
            "1/2, 3/4, 3½, 24/7, 7/3",
            "one half , three quarters , three and one half , twenty four seven , seven over three .",
        ),
        (
            "10-20, -5, .5, 1.2.3, 3x4",
            "ten to twenty , minus five , zero point five , one point two point three , three by four .",
        ),
        ("1st 22nd 113th", "first twenty second one hundred thirteenth ."),
        (
            "007, 12345678901234567",
            "zero zero seven , one two three four five six seven eight nine zero one two three four five six seven .",
        ),
        ("Dr. Smith, Mr. & Mrs. Jones vs. Prof. X", "doctor smith , mister and missus jones versus professor X ."),
        ("St. John of Main St. in St. Louis", "saint john of main street in saint louis ."),
        ("e.g. this, i.e. that, etc.", "for example , this , that is , that , et cetera ."),
        ("J. R. R. Tolkien of the U.S. office", "J R R tolkien of the U S office ."),
        ("the NASA GPU, GPUs, US and FBI's PhD", "the nasa G P U , G P U's , U S and fbi's P H D ."),
        ("THE LINE IS SHOUTED, DON'T YOU SEE US?", "the line is shouted , don't you see us ?"),
        ("Henry VIII, World War II, Chapter IV", "henry the eighth , world war two , chapter four ."),
        ("see https://www.example.com/a1.", "see W W W dot example dot com slash A one ."),
        ("john.doe@mail.org", "john dot doe at mail dot org ."),
        ("#5 is #1 in C++ & C#, a+b=c", "number five is number one in C plus plus and C sharp , a plus B equals C ."),
        ("OpenAI and iPhone, MacNeff", "open A I and iphone , mac neff ."),
        ("Vitamin A. A man. I am.", "vitamin A . a man . i am ."),
        ("well-known -- 'quoted' \"text\" (aside)...", "well known - quoted text , aside ."),
        ("rock 'n' roll, tell 'em, dogs' tails", "rock and roll , tell 'em , dogs tails ."),
        ("Wait... what?! No!!", "wait - what ? no !"),
        ("Café naïve Łódź Straße 𝓗𝓮𝓵𝓵𝓸 ＡＢＣ ١٢", "cafe naive lodz strasse hello abc twelve ."),
        ("α-decay 😀 of 👍🏽 Привет", "alpha decay of ."),
        ("one\n\ntwo\nthree", "one . two three ."),
        ("10^6, 10^-3, x^2", "ten to the sixth , ten to the minus three , X squared ."),
        ("1e-5 or 2.5E+3", "one times ten to the minus five or two point five times ten to the third ."),
        ("¥100, 100 ¥, ¥1, ₹250", "one hundred yen , one hundred yen , one yen , two hundred fifty rupees ."),
        ("on 30.06.2024, at 9.30.12.1", "on june thirtieth , twenty twenty four , at nine point thirty point twelve "
         "point one ."),
        ("Wait 2 1/2 hours or 3 3/4", "wait two and a half hours or three and three quarters ."),
        ("CO2, H2O, MP3, H1N1", "C O two , H two O , M P three , H one N one ."),
        ("Choose a/b, and/or, on 20 m2", "choose A slash B , and or , on twenty square meters ."),
        ("The CEO of IBM, at 3:1", "the ceo of ibm , at three to one ."),
    ],
)  # fmt: skip
def test_said(written: str, said: str) -> None:
    assert " ".join(normalize(written)) == said


@pytest.mark.parametrize("text", ["", " ", "...", "😀", "Привет", "你好", "-", "\x00", "''"])
def test_nothing_to_say(text: str) -> None:
    assert normalize(text) == []


def test_numbers() -> None:
    assert cardinal("1000001") == "one million one"
    assert number("1,000.05") == "one thousand point zero five"
    assert ordinal(112) == "one hundred twelfth"
    assert (year(1900), year(2000), year(1805)) == ("nineteen hundred", "two thousand", "eighteen oh five")
    assert (fraction(1, 4), fraction(2, 3), fraction(3, 2)) == ("one quarter", "two thirds", "three halves")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text("aZ19 .,:-/$€£¥₹%#@&'+()=^exIVA°½\n", max_size=60))
def test_any_text(text: str) -> None:
    said = normalize(text)
    marks = set(",.?!;:-")
    assert not said or (said[0] not in marks and said[-1] in marks)
    for item in said:
        assert item in marks or item.replace("'", "").isalpha(), item
        assert item in marks or item.islower() or (item[0].isupper() and item[1:] in ("", "'s")), item
    assert not any(a in marks and b in marks for a, b in pairwise(said))
    assert "".join(c for c in fold(text) if c not in "€£¥₹").isascii()


@pytest.mark.parametrize(
    "unit", ["a", "1", "a.", "1,", "$1 ", "-", "A", "1/", "a@", "x1", "'a", "1:", "M. ",
     "XI ", "é½", " ", "10^", "1e", "A1", "1 1/", "¥1", "1.", "http://", "(1)"]
)  # fmt: skip
def test_time_grows_with_length(unit: str) -> None:
    def seconds(copies: int) -> float:
        start = time.process_time()
        normalize(unit * copies)
        return time.process_time() - start

    seconds(10)
    assert seconds(4000) < 12 * seconds(1000) + 0.1  # four times as much, and noise
