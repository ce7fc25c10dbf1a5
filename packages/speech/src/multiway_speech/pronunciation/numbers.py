"""Numbers as an American says them."""

from __future__ import annotations

import num2words


def cardinal(number: int) -> str:
    """``cardinal(123)`` is ``one hundred twenty-three``."""
    return str(num2words.num2words(number)).replace(" and ", " ").replace(",", "")


def ordinal(number: int) -> str:
    """``ordinal(21)`` is ``twenty-first``."""
    return str(num2words.num2words(number, to="ordinal")).replace(" and ", " ").replace(",", "")


def year(number: int) -> str:
    """``year(1905)`` is ``nineteen oh five``; ``year(2005)`` is ``two thousand five``."""
    if 2000 <= number < 2010 or number % 1000 == 0:
        return cardinal(number)
    century, rest = divmod(number, 100)
    last = "hundred" if rest == 0 else f"oh {cardinal(rest)}" if rest < 10 else cardinal(rest)
    return f"{cardinal(century)} {last}"


def digits(text: str) -> str:
    """Each digit by itself."""
    return " ".join(cardinal(int(digit)) for digit in text)


def decimal(text: str) -> str:
    """``decimal("3.14")`` is ``three point one four``."""
    whole, _, fraction = text.partition(".")
    return f"{cardinal(int(whole)) if len(whole) < 16 else digits(whole)} point {digits(fraction)}"
