"""Receipt text: short amounts, capitals, codes, and names that no dictionary has.

Strings of a receipt have little language in them, and a third are numbers alone. A reader that knows prose guesses
words and small letters where there are none, unless it has read many of these.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator

_CURRENCIES = ("RM", "$", "RM ", "USD ", "£", "EUR ", "S$", "Rs.", "")
_TOTALS = (
    "TOTAL", "SUB TOTAL", "SUBTOTAL", "CASH", "CHANGE", "ROUNDING", "ROUNDING ADJ", "TOTAL SALES",
    "NET TOTAL", "DISC", "TAX", "GST", "VAT", "BALANCE", "AMOUNT DUE", "TENDERED", "CARD", "GRAND TOTAL",
    "TOTAL QTY", "ITEMS", "DEPOSIT", "Total", "Sub Total", "Change", "Cash", "Round Amt",
    "Total Amt Incl. Tax", "Qty", "Amount", "Price", "Paid",
)  # fmt: skip
_FIELDS = (
    "DATE", "TIME", "CASHIER", "BILL NO", "INVOICE NO", "INV NO", "RECEIPT NO", "TEL", "FAX", "GST ID",
    "GST REG NO", "CO. REG", "REF", "TABLE", "POS", "STORE", "TRX", "MEMBER", "Doc No.", "Cashier",
    "Salesperson", "Ref.", "Order #", "Terminal", "Counter", "Slip", "PAX", "DOC NO", "TAX CODE",
)  # fmt: skip
_FORMS = (
    "SDN BHD", "SDN. BHD.", "ENTERPRISE", "TRADING", "& CO", "LTD", "INC.", "GMBH", "(M) SDN BHD", "STORE",
    "MART", "S/B", "HARDWARE", "RESTAURANT", "PHARMACY", "BOOKS", "LLC", "STATIONERS", "CAFE", "PLC",
)  # fmt: skip
_STREETS = ("JALAN", "JLN", "LORONG", "TAMAN", "UNIT", "LOT", "ST", "ROAD")
_SIZES = ("ML", "G", "KG", "MM", "PCS", "L", "S", '"', "CM")
_TITLES = (
    "TAX INVOICE", "INVOICE", "RECEIPT", "THANK YOU", "THANK YOU FOR SHOPPING", "PLEASE COME AGAIN",
    "CUSTOMER COPY", "CASH BILL", "SIMPLIFIED TAX INVOICE", "GOODS SOLD ARE NOT RETURNABLE",
    "Thank You. Please Come Again", "GST SUMMARY", "*** THANK YOU ***", "DUPLICATE", "QTY  ITEM  AMT",
    "DESCRIPTION", "UNIT PRICE", "ITEM", "AMT(RM)", "TAX(RM)", "(RM)",
)  # fmt: skip
_ONSETS = tuple("BCDFGHJKLMNPRSTWYZ") + ("CH", "KH", "NG", "SY", "TR", "BR", "SH", "TH", "KL", "")
_VOWELS = ("A", "E", "I", "O", "U", "AI", "AU", "UA", "IA", "OO", "EE")
_CODAS = ("", "", "N", "NG", "H", "K", "R", "S", "T", "M", "L", "P", "W")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _pick(rng: Rng, options: tuple[str, ...] | str) -> str:
    return options[int(rng.integers(len(options)))]


def _digits(rng: Rng, count: int) -> str:
    return "".join(map(str, rng.integers(0, 10, count)))


def name(rng: Rng) -> str:
    """An invented name in capitals, one to three syllables."""
    parts = range(int(rng.integers(1, 4)))
    return "".join(_pick(rng, _ONSETS) + _pick(rng, _VOWELS) + _pick(rng, _CODAS) for _ in parts)


def amount(rng: Rng) -> str:
    """A price, often alone: "0.00", "RM 20.40", "-1,250.50", "@ 3.60 SR"."""
    value = float(np.exp(rng.normal(2.5, 1.6))) if rng.random() < 0.9 else 0.0
    text = f"{value:,.2f}" if rng.random() < 0.6 else f"{value:.2f}"
    text = _pick(rng, _CURRENCIES) + text if rng.random() < 0.4 else text
    choice = rng.random()
    if choice < 0.06:
        return f"-{text}"
    if choice < 0.12:
        return f"{text} {_pick(rng, ('SR', 'ZR', 'S', 'Z', 'T', '*', 'A', 'SR*'))}"
    if choice < 0.20:
        return f"{int(rng.integers(1, 20))} {_pick(rng, ('X', 'x', '@', 'PCS @', 'PC', 'UNIT X'))} {text}"
    return text


def code(rng: Rng) -> str:
    """An article, invoice or registration number: digits and capitals, dashes and strokes."""
    choice = rng.random()
    if choice < 0.3:
        return _digits(rng, int(rng.integers(4, 15)))
    if choice < 0.5:
        return f"({_digits(rng, 6)}-{_pick(rng, _LETTERS)})"
    parts = [
        "".join(_pick(rng, _LETTERS + "0123456789" * 2) for _ in range(int(rng.integers(1, 6))))
        for _ in range(int(rng.integers(1, 4)))
    ]
    return _pick(rng, ("-", "/", " - ", " ", ".")).join(parts)


def moment(rng: Rng) -> str:
    """A date, a time, or both."""
    day, month, year = int(rng.integers(1, 32)), int(rng.integers(1, 13)), int(rng.integers(1998, 2027))
    sign = _pick(rng, "/-.")
    date = f"{day:02d}{sign}{month:02d}{sign}{year if rng.random() < 0.6 else f'{year % 100:02d}'}"
    hour, minute, second = int(rng.integers(24)), int(rng.integers(60)), int(rng.integers(60))
    time = f"{hour:02d}:{minute:02d}" + (f":{second:02d}" if rng.random() < 0.6 else "")
    if rng.random() < 0.4:
        time = f"{hour % 12 or 12}{time[2:]} {_pick(rng, ('AM', 'PM', 'am', 'pm'))}"
    return (date, time, f"{date} {time}")[int(rng.integers(3))]


def field(rng: Rng) -> str:
    """A key and what is behind its colon, which may stand off by a blank or end the line."""
    colon = _pick(rng, (":", " :", ": ", " : ", "  : ", "# ", " # : ", ". "))
    if rng.random() < 0.4:
        return (_pick(rng, _TOTALS) + colon + (amount(rng) if rng.random() < 0.6 else "")).strip()
    values: tuple[Callable[[Rng], str], ...] = (code, moment, name)
    return (
        _pick(rng, _FIELDS) + colon + (values[int(rng.integers(3))](rng) if rng.random() < 0.75 else "")
    ).strip()


def place(rng: Rng) -> str:
    """A line of an address or a firm's name, in capitals."""
    names = " ".join(name(rng) for _ in range(int(rng.integers(1, 4))))
    choice = rng.random()
    if choice < 0.35:
        return f"{names} {_pick(rng, _FORMS)}"
    if choice < 0.7:
        number = code(rng) if rng.random() < 0.3 else _digits(rng, 2)
        return f"{number}, {_pick(rng, _STREETS)} {names},"
    return f"{_digits(rng, 5)} {names}" + _pick(rng, ("", ",", "."))


def article(rng: Rng) -> str:
    """A bought article with its number and size."""
    size = f"{int(rng.integers(1, 1000))}{_pick(rng, _SIZES)}"
    text = f"{name(rng)} {name(rng)} {size if rng.random() < 0.6 else ''}".strip()
    return f"{code(rng)} {text}" if rng.random() < 0.25 else text


MAKERS: tuple[tuple[float, Callable[[Rng], str]], ...] = (
    (0.34, amount), (0.17, field), (0.12, code), (0.10, moment), (0.10, place), (0.10, article),
    (0.07, lambda rng: _pick(rng, _TITLES)),
)  # fmt: skip
_CUMULATIVE = np.cumsum([share for share, _ in MAKERS])


def till_line(rng: Rng, length: int) -> str:
    """One line of a receipt, about ``length`` characters or fewer; two columns now and then."""
    makers = [
        MAKERS[min(int(np.searchsorted(_CUMULATIVE, rng.random())), len(MAKERS) - 1)][1] for _ in range(2)
    ]
    text = makers[0](rng)
    if length > 20 and rng.random() < 0.2:
        text = f"{text} {makers[1](rng)}"
    return text[:length].strip()
