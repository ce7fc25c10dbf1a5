"""Numbers, prices, dates, times, telephone numbers and part numbers."""

from __future__ import annotations

import string

from multiway_document.rendering.generators.choice import Rng, Words, digits, pick
from multiway_document.rendering.generators.names import CURRENCIES, DAYS, MONTHS, UNITS


def number(rng: Rng, words: Words) -> str:
    value = 10 ** rng.uniform(0, 6)
    return pick(
        rng,
        [
            f"{value:,.2f}",
            f"{value:.0f}",
            f"{value:.1f}",
            f"{value:,.0f}",
            f"-{value:.2f}",
            f"({value:,.2f})",
            f"{value:.3f}",
            f"{rng.uniform(0, 100):.1f}%",
            f"±{rng.uniform(0, 9):.2f}",
            f"{value:,.2f}".replace(",", " "),
            f"{int(value)}{pick(rng, UNITS)}",
            f"{value:.1f} {pick(rng, UNITS)}",
            f"+{value:.1f}",
            f"{value:.2e}",
        ],
    )


def price(rng: Rng, words: Words) -> str:
    value = 10 ** rng.uniform(0, 4)
    currency = pick(rng, CURRENCIES)
    return (
        f"{currency}{value:,.2f}"
        if rng.random() < 0.8
        else f"{value:.2f} {currency.strip()}".replace(".", ",")
    )


def date(rng: Rng, words: Words) -> str:
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(1950, 2036))
    name = MONTHS[month - 1]
    return pick(
        rng,
        [
            f"{day:02}/{month:02}/{year}",
            f"{day}/{month}/{year % 100:02}",
            f"{year}-{month:02}-{day:02}",
            f"{day}.{month}.{year}",
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
            f"{pick(rng, DAYS)}, {day} {name[:3]} {year}",
            f"{day:02}-{name[:3]}-{year % 100:02}",
            f"{day:02}-{month:02}-{year}",
            f"{name[:3]} '{year % 100:02}",
        ],
    )


def time(rng: Rng, words: Words) -> str:
    hour, minute, second = int(rng.integers(24)), int(rng.integers(60)), int(rng.integers(60))
    return pick(
        rng,
        [
            f"{hour:02}:{minute:02}",
            f"{hour:02}:{minute:02}:{second:02}",
            f"{hour % 12 + 1}:{minute:02} PM",
            f"{hour % 12 + 1}.{minute:02} am",
            f"{hour:02}:{minute:02} - {(hour + 2) % 24:02}:{minute:02}",
        ],
    )


def phone(rng: Rng, words: Words) -> str:
    return pick(
        rng,
        [
            f"+{int(rng.integers(1, 99))} {digits(rng, 2)} {digits(rng, 3)} {digits(rng, 4)}",
            f"({digits(rng, 3)}) {digits(rng, 3)}-{digits(rng, 4)}",
            f"0{digits(rng, 1)}-{digits(rng, 4)} {digits(rng, 4)}",
            f"TEL: 0{digits(rng, 2)}-{digits(rng, 7)}",
            f"{digits(rng, 4)} {digits(rng, 6)}",
        ],
    )


def part_number(rng: Rng, words: Words) -> str:
    letters = "".join(string.ascii_uppercase[int(i)] for i in rng.integers(26, size=4))
    return pick(
        rng,
        [
            f"{letters[:2]}-{digits(rng, 4)}",
            f"{letters[:3]}{digits(rng, 5)}{letters[3]}",
            f"{digits(rng, 3)}.{digits(rng, 3)}.{digits(rng, 2)}",
            f"S/N {letters}{digits(rng, 6)}",
            f"{digits(rng, 13)}",
            f"{letters[0]}{digits(rng, 1)} {digits(rng, 1)}{letters[1:3]}",
            f"No. {digits(rng, 3)}/{digits(rng, 2)}",
            f"#{digits(rng, 6)}",
            f"{digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 4)}",
            f"ISBN 978-{digits(rng, 1)}-{digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 1)}",
        ],
    )
