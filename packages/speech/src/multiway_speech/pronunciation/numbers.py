"""Numbers in American English."""

from __future__ import annotations

import num2words

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LONGEST = 15
"""Whole numbers of more digits are said digit by digit."""


def _said(number: int, to: str) -> str:
    return str(num2words.num2words(number, to=to)).replace(" and ", " ").replace(",", "").replace("-", " ")


def cardinal(text: str) -> str:
    """``cardinal("123")`` is ``one hundred twenty three``; ``007`` and very long numbers are read by digits."""
    if len(text) > LONGEST or (len(text) > 1 and text[0] == "0"):
        return digits(text)
    return _said(int(text), "cardinal")


def ordinal(number: int) -> str:
    """``ordinal(21)`` is ``twenty first``."""
    return _said(number, "ordinal")


def digits(text: str) -> str:
    """Each digit by itself."""
    return " ".join(_DIGITS[int(digit)] for digit in text)


def number(text: str) -> str:
    """``number("1,234.50")`` is ``one thousand two hundred thirty four point five zero``."""
    whole, point, fraction = text.replace(",", "").partition(".")
    return cardinal(whole or "0") + (f" point {digits(fraction)}" if point else "")


def year(number: int) -> str:
    """``year(1905)`` is ``nineteen oh five``; ``year(2005)`` is ``two thousand five``."""
    if 2000 <= number < 2010 or number % 1000 == 0 or not 1000 < number < 10000:
        return cardinal(str(number))
    century, rest = divmod(number, 100)
    if rest == 0:
        return f"{cardinal(str(century))} hundred"
    return f"{cardinal(str(century))} {'oh ' if rest < 10 else ''}{cardinal(str(rest))}"


def plural(said: str) -> str:
    """The plural of a number's last word: ``nineteen eighties``."""
    return said[:-1] + "ies" if said.endswith("y") else said + ("es" if said.endswith("x") else "s")


def fraction(numerator: int, denominator: int) -> str:
    """``fraction(3, 4)`` is ``three quarters``."""
    name = {2: "half", 4: "quarter"}.get(denominator) or ordinal(denominator)
    if numerator != 1:
        name = "halves" if denominator == 2 else name + "s"
    return f"{cardinal(str(numerator))} {name}"
