"""Office and shop text: people, postal addresses, lines of receipts, forms, lists and tables."""

from __future__ import annotations

import string

from multiway_document.rendering.generators.choice import Rng, Words, digits, pick
from multiway_document.rendering.generators.figures import date, number, part_number, phone, price, time
from multiway_document.rendering.generators.machine_text import address
from multiway_document.rendering.generators.names import (
    CURRENCIES,
    FIRST,
    FORM_KEYS,
    LAST,
    RECEIPT_KEYS,
    STREETS,
    TOWNS,
)


def person(rng: Rng, words: Words) -> str:
    title = pick(rng, ["", "", "Mr. ", "Ms ", "Dr. ", "Prof. ", "MR ", "Mrs. "])
    initial = pick(rng, ["", f"{pick(rng, string.ascii_uppercase)}. "])
    suffix = pick(rng, ["", "", "", ", Ph.D.", " Jr.", " & Co.", " Sdn Bhd", " Ltd.", " GmbH"])
    return f"{title}{pick(rng, FIRST)} {initial}{pick(rng, LAST)}{suffix}"


def postal_address(rng: Rng, words: Words) -> str:
    n = int(rng.integers(1, 400))
    street = f"{pick(rng, LAST)} {pick(rng, STREETS)}"
    return pick(
        rng,
        [
            f"{n}, {street}, {digits(rng, 5)} {pick(rng, TOWNS)}",
            f"No.{n}-{n % 7}G, JALAN {pick(rng, words).upper()} {n % 30}/{n % 12}",
            f"{n} {street}",
            f"{digits(rng, 5)} {pick(rng, TOWNS)}",
            f"P.O. Box {digits(rng, 4)}, {pick(rng, TOWNS)}",
            f"{pick(rng, TOWNS)}, {pick(rng, string.ascii_uppercase)}{digits(rng, 4)}",
            f"Lot {n}, {n % 20}/F, {pick(rng, TOWNS).upper()}",
        ],
    )


def receipt_line(rng: Rng, words: Words) -> str:
    value, quantity = 10 ** rng.uniform(0, 3), int(rng.integers(1, 13))
    item = f"{pick(rng, words)} {pick(rng, words)}"
    item = item.upper() if rng.random() < 0.6 else item
    key = pick(rng, RECEIPT_KEYS)
    return pick(
        rng,
        [
            f"{key} {pick(rng, CURRENCIES)}{value:.2f}",
            f"{key}: {value:.2f}",
            f"{quantity} x {value:.2f} {quantity * value:.2f} SR",
            f"{item} {value:.2f}",
            f"{quantity} {item} {value:.2f} {quantity * value:,.2f}",
            f"{digits(rng, 7)} {item}",
            f"{key} {value:,.2f}",
            f"{item} @ {value:.2f}/kg",
            f"({quantity}) {item}",
            f"*** {item} ***",
            f"{item} ×{quantity} {value:.2f}*",
            "THANK YOU, PLEASE COME AGAIN!",
            f"{key} ....... {value:.2f}",
        ],
    )


def form_line(rng: Rng, words: Words) -> str:
    makers = (date, number, phone, person, part_number, price, postal_address, address, time)
    value = makers[int(rng.integers(len(makers)))](rng, words)
    key = pick(rng, FORM_KEYS)
    key = key.upper() if rng.random() < 0.2 else key
    return f"{key}{pick(rng, [': ', ' : ', ' ', ':', '. ', ' = '])}{value}"


def list_item(rng: Rng, words: Words) -> str:
    n = int(rng.integers(1, 30))
    mark = pick(
        rng,
        [
            f"{n}.",
            f"{n})",
            f"({n})",
            f"{chr(97 + n % 26)})",
            f"({chr(97 + n % 26)})",
            "•",
            "-",
            "–",
            "*",
            "»",
            "□",
            "☐",
            "☑",
            "✓",
            "·",
            f"§ {n}",
            f"{n}.{n % 7}",
            f"[{n}]",
            "→",
            f"{chr(65 + n % 26)}.",
            "◦",
        ],
    )
    text = " ".join(pick(rng, words) for _ in range(int(rng.integers(1, 9))))
    return f"{mark} {text}{pick(rng, ['', '', '.', ';', ',', '?', '!', ':', '…'])}"


def cell_row(rng: Rng, words: Words) -> str:
    makers = [number, number, date, part_number, price, lambda r, w: pick(r, w)]
    return " ".join(
        makers[int(i)](rng, words) for i in rng.integers(len(makers), size=int(rng.integers(2, 7)))
    )
