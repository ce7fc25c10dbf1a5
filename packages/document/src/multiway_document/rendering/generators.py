"""Generated text of offices and shops: what running text lacks (figures, prices, codes, addresses, table
cells).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import numpy as np

Rng = np.random.Generator
Words = Sequence[str]

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_CURRENCIES = ("$", "€", "£", "¥", "RM ", "RM", "USD ", "EUR ", "CHF ", "¢", "Rp ", "kr ")
_FIRST = (
    "James",
    "Mary",
    "Wei",
    "Anna",
    "José",
    "Zoë",
    "Björn",
    "Siti",
    "Łukasz",
    "François",
    "Müller",
    "Ravi",
    "Olga",
    "Chloé",
    "Jürgen",
    "Tan",
    "Nguyễn",
    "Ahmad",
    "Kate",
    "Quentin",
    "Xavier",
    "Yvonne",
)
_LAST = (
    "Smith",
    "Tan",
    "Lim",
    "O'Brien",
    "García",
    "Kowalski",
    "Šimek",
    "Novák",
    "Jensen",
    "Öztürk",
    "Lee",
    "Fernández",
    "Dvořák",
    "Weiß",
    "McDonald",
    "Abdullah",
    "van Dijk",
    "Brown",
    "Ng",
    "Jones",
)
_STREETS = (
    "Street",
    "Road",
    "Avenue",
    "Jalan",
    "Lane",
    "Blvd.",
    "Rue",
    "Straße",
    "Drive",
    "Square",
    "St",
    "Ave",
)
_TOWNS = (
    "Kuala Lumpur",
    "Springfield",
    "Zürich",
    "Kraków",
    "London",
    "München",
    "São Paulo",
    "Johor Bahru",
    "Paris",
    "New York",
    "Malmö",
    "Győr",
    "Plzeň",
    "Oakland",
    "Penang",
    "Leeds",
)
_RECEIPT_KEYS = (
    "TOTAL",
    "SUBTOTAL",
    "Sub Total",
    "GST 6%",
    "CASH",
    "CHANGE",
    "Rounding Adj.",
    "TAX",
    "VISA",
    "Balance",
    "Amount Due",
    "DISCOUNT",
    "Total Sales (Inclusive GST)",
    "SR",
    "Tendered",
    "QTY",
    "Service Charge 10%",
    "Net Total",
    "VAT 20%",
    "CARD ENDING",
)
_FORM_KEYS = (
    "Name",
    "Date",
    "Invoice No",
    "Invoice #",
    "Order No.",
    "Tel",
    "Fax",
    "GST ID",
    "Ref",
    "Page",
    "Cashier",
    "Table",
    "Due Date",
    "Account",
    "P.O. Box",
    "Attn",
    "From",
    "To",
    "Subject",
    "Bill To",
    "Doc No.",
    "Member",
    "Qty",
    "Description",
    "Unit Price",
    "Amount",
    "Reg No",
    "CC",
    "Signature",
    "Remarks",
)
_EXTENSIONS = ("com", "org", "net", "de", "co.uk", "my", "io", "gov", "edu", "fr", "pl")
_UNITS = (
    "kg",
    "g",
    "mm",
    "cm",
    "m",
    "km",
    "ml",
    "L",
    "°C",
    "°F",
    "%",
    "‰",
    "V",
    "Hz",
    "kW",
    "µm",
    "m²",
    "m³",
    "pcs",
    "x",
    "GB",
    "dB",
    "mg/dL",
    "hrs",
    "Ω",
)


def _pick(rng: Rng, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _digits(rng: Rng, count: int) -> str:
    return "".join(map(str, rng.integers(0, 10, count)))


def number(rng: Rng, words: Words) -> str:
    value = 10 ** rng.uniform(0, 6)
    return _pick(
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
            f"{int(value)}{_pick(rng, _UNITS)}",
            f"{value:.1f} {_pick(rng, _UNITS)}",
            f"+{value:.1f}",
            f"{value:.2e}",
        ],
    )


def price(rng: Rng, words: Words) -> str:
    value = 10 ** rng.uniform(0, 4)
    currency = _pick(rng, _CURRENCIES)
    return (
        f"{currency}{value:,.2f}"
        if rng.random() < 0.8
        else f"{value:.2f} {currency.strip()}".replace(".", ",")
    )


def date(rng: Rng, words: Words) -> str:
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(1950, 2036))
    name = _MONTHS[month - 1]
    return _pick(
        rng,
        [
            f"{day:02}/{month:02}/{year}",
            f"{day}/{month}/{year % 100:02}",
            f"{year}-{month:02}-{day:02}",
            f"{day}.{month}.{year}",
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
            f"{_pick(rng, _DAYS)}, {day} {name[:3]} {year}",
            f"{day:02}-{name[:3]}-{year % 100:02}",
            f"{day:02}-{month:02}-{year}",
            f"{name[:3]} '{year % 100:02}",
        ],
    )


def time(rng: Rng, words: Words) -> str:
    hour, minute, second = int(rng.integers(24)), int(rng.integers(60)), int(rng.integers(60))
    return _pick(
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
    return _pick(
        rng,
        [
            f"+{int(rng.integers(1, 99))} {_digits(rng, 2)} {_digits(rng, 3)} {_digits(rng, 4)}",
            f"({_digits(rng, 3)}) {_digits(rng, 3)}-{_digits(rng, 4)}",
            f"0{_digits(rng, 1)}-{_digits(rng, 4)} {_digits(rng, 4)}",
            f"TEL: 0{_digits(rng, 2)}-{_digits(rng, 7)}",
            f"{_digits(rng, 4)} {_digits(rng, 6)}",
        ],
    )


def _slug(rng: Rng, words: Words) -> str:
    word = "".join(
        character for character in _pick(rng, words).lower() if character in string.ascii_lowercase
    )
    return word or "info"


def address(rng: Rng, words: Words) -> str:
    joint, number_ = _pick(rng, ["", ".", "-", "_"]), _pick(rng, ["", _digits(rng, 2)])
    name = f"{_slug(rng, words)}{joint}{_slug(rng, words)}{number_}"
    host = f"{_slug(rng, words)}.{_pick(rng, _EXTENSIONS)}"
    return _pick(
        rng,
        [
            f"{name}@{host}",
            f"www.{host}",
            f"https://{host}/{_slug(rng, words)}/{name}",
            f"http://www.{host}/?id={_digits(rng, 4)}&q={name}",
            f"C:\\{_slug(rng, words)}\\{name}.txt",
            f"/usr/share/{name}/{_slug(rng, words)}.conf",
            f"~/{name}",
            f"#{name}",
            f"@{name}",
        ],
    )


def code(rng: Rng, words: Words) -> str:
    a, b, c = (_slug(rng, words) for _ in range(3))
    n = int(rng.integers(1000))
    return _pick(
        rng,
        [
            f"if ({a} == {n}) {{ return {b}[{n % 9}]; }}",
            f"def {a}_{b}({c}: int = {n}) -> None:",
            f"{a} = {b}.{c}({n}, '{a}')",
            f"#include <{a}/{b}.h>",
            f"for (int i = 0; i < {n}; ++i) {a}[i] += {b} * {c};",
            f"$ {a} --{b}={n} | grep -v '{c}' > /tmp/{a}.log 2>&1",
            f"# {a}: {b} {c}",
            f'<{a} {b}="{c}">{n}</{a}>',
            f'{{"{a}": {n}, "{b}": ["{c}", null]}}',
            f"SELECT {a}, {b} FROM {c} WHERE {a} <> {n};",
            f"0x{n * 7919:08X}",
            f"\\{a}{{{b}}} % {c}",
            f"{a}->{b} != ~{c} ^ {n}",
            f"@{a}({b}!r)",
            f"${{{a.upper()}}}/{b}",
            f"std::{a}<{b}&&> {c};",
        ],
    )


def part_number(rng: Rng, words: Words) -> str:
    letters = "".join(string.ascii_uppercase[int(i)] for i in rng.integers(26, size=4))
    return _pick(
        rng,
        [
            f"{letters[:2]}-{_digits(rng, 4)}",
            f"{letters[:3]}{_digits(rng, 5)}{letters[3]}",
            f"{_digits(rng, 3)}.{_digits(rng, 3)}.{_digits(rng, 2)}",
            f"S/N {letters}{_digits(rng, 6)}",
            f"{_digits(rng, 13)}",
            f"{letters[0]}{_digits(rng, 1)} {_digits(rng, 1)}{letters[1:3]}",
            f"No. {_digits(rng, 3)}/{_digits(rng, 2)}",
            f"#{_digits(rng, 6)}",
            f"{_digits(rng, 4)}-{_digits(rng, 4)}-{_digits(rng, 4)}-{_digits(rng, 4)}",
            f"ISBN 978-{_digits(rng, 1)}-{_digits(rng, 4)}-{_digits(rng, 4)}-{_digits(rng, 1)}",
        ],
    )


def person(rng: Rng, words: Words) -> str:
    title = _pick(rng, ["", "", "Mr. ", "Ms ", "Dr. ", "Prof. ", "MR ", "Mrs. "])
    initial = _pick(rng, ["", f"{_pick(rng, string.ascii_uppercase)}. "])
    suffix = _pick(rng, ["", "", "", ", Ph.D.", " Jr.", " & Co.", " Sdn Bhd", " Ltd.", " GmbH"])
    return f"{title}{_pick(rng, _FIRST)} {initial}{_pick(rng, _LAST)}{suffix}"


def postal_address(rng: Rng, words: Words) -> str:
    n = int(rng.integers(1, 400))
    street = f"{_pick(rng, _LAST)} {_pick(rng, _STREETS)}"
    return _pick(
        rng,
        [
            f"{n}, {street}, {_digits(rng, 5)} {_pick(rng, _TOWNS)}",
            f"No.{n}-{n % 7}G, JALAN {_pick(rng, words).upper()} {n % 30}/{n % 12}",
            f"{n} {street}",
            f"{_digits(rng, 5)} {_pick(rng, _TOWNS)}",
            f"P.O. Box {_digits(rng, 4)}, {_pick(rng, _TOWNS)}",
            f"{_pick(rng, _TOWNS)}, {_pick(rng, string.ascii_uppercase)}{_digits(rng, 4)}",
            f"Lot {n}, {n % 20}/F, {_pick(rng, _TOWNS).upper()}",
        ],
    )


def receipt_line(rng: Rng, words: Words) -> str:
    value, quantity = 10 ** rng.uniform(0, 3), int(rng.integers(1, 13))
    item = f"{_pick(rng, words)} {_pick(rng, words)}"
    item = item.upper() if rng.random() < 0.6 else item
    key = _pick(rng, _RECEIPT_KEYS)
    return _pick(
        rng,
        [
            f"{key} {_pick(rng, _CURRENCIES)}{value:.2f}",
            f"{key}: {value:.2f}",
            f"{quantity} x {value:.2f} {quantity * value:.2f} SR",
            f"{item} {value:.2f}",
            f"{quantity} {item} {value:.2f} {quantity * value:,.2f}",
            f"{_digits(rng, 7)} {item}",
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
    key = _pick(rng, _FORM_KEYS)
    key = key.upper() if rng.random() < 0.2 else key
    return f"{key}{_pick(rng, [': ', ' : ', ' ', ':', '. ', ' = '])}{value}"


def list_item(rng: Rng, words: Words) -> str:
    n = int(rng.integers(1, 30))
    mark = _pick(
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
    text = " ".join(_pick(rng, words) for _ in range(int(rng.integers(1, 9))))
    return f"{mark} {text}{_pick(rng, ['', '', '.', ';', ',', '?', '!', ':', '…'])}"


def cell_row(rng: Rng, words: Words) -> str:
    makers = [number, number, date, part_number, price, lambda r, w: _pick(r, w)]
    return " ".join(
        makers[int(i)](rng, words) for i in rng.integers(len(makers), size=int(rng.integers(2, 7)))
    )


def formula(rng: Rng, words: Words) -> str:
    a, b, c, d = (_pick(rng, "abcdefghijknmpqrstuvwxyzABCDEFGHXYZ") for _ in range(4))
    n, m = int(rng.integers(2, 200)), int(rng.integers(2, 20))
    return _pick(
        rng,
        [
            f"{a} = {n}{b} + {m}",
            f"{a}² + {b}² = {c}²",
            f"√{n} ≈ {n**0.5:.3f}",
            f"{a} ≤ {b} ≠ {c} ≥ {d}",
            f"{n} × {m} ÷ {a} = {b}",
            f"{a} → ∞",
            f"{n} ± {m} µm",
            f"½ {a}³ − ¼{b}",
            f"{n}° {m}' N",
            f"{a}({b}) = {c}/{d}",
            f"−{n},{m} °C",
            f"{a}¹ ∙ {b}",
            f"{n} < {a} < {n + m}",
            f"{n}:{m}",
            f"{n}/{m}",
            f"¾ × {n}",
            f"¬{a} ÷ {b}",
            f"{a} ← {b}",
        ],
    )


MAKERS: tuple[tuple[float, Callable[[Rng, Words], str]], ...] = (
    (10, number),
    (10, price),
    (10, date),
    (5, time),
    (6, phone),
    (10, address),
    (9, code),
    (8, part_number),
    (6, person),
    (8, postal_address),
    (14, receipt_line),
    (10, form_line),
    (8, list_item),
    (8, cell_row),
    (4, formula),
)
_CUMULATIVE = np.cumsum([weight for weight, _ in MAKERS])


def line(rng: Rng, length: int, words: Words) -> str:
    """Generated pieces joined until ``length`` characters are reached (the last piece is cut there)."""
    pieces: list[str] = []
    total = 0
    while total < length:
        pieces.append(
            MAKERS[int(np.searchsorted(_CUMULATIVE, rng.random() * _CUMULATIVE[-1]))][1](rng, words)
        )
        total += len(pieces[-1]) + 1
    separator = " " if rng.random() < 0.8 else _pick(rng, [", ", " | ", "; ", " / ", " - ", " – ", " · "])
    return separator.join(pieces)[:length]
