"""Average character widths, used to divide a line's box into word boxes.

Advance widths are Helvetica's (the standard PDF font's metrics), in thousandths of the font size. Accented
letters are as wide as their base letter, East Asian wide characters fill the square, marks that combine take
no room.
"""

from __future__ import annotations

import unicodedata
from functools import cache

# 0x20 to 0x7E
_ASCII = (
    "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 "
    "556 556 278 278 584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 "
    "667 778 722 667 611 722 667 944 667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 "
    "556 222 222 500 222 833 556 556 556 556 333 500 278 556 500 722 500 500 500 334 260 334 584"
)
_ADVANCES = {chr(0x20 + i): int(width) for i, width in enumerate(_ASCII.split())}
for _width, _characters in {
    222: "‚‘’",
    278: "·",
    333: "¡¨¯²³´¸¹„“”‹›ˆ˜",
    350: "•",
    400: "°ªº",
    584: "¬±×÷−",
    611: "ßø¿",
    722: "ÐØ©®",
    834: "¼½¾",
    889: "æ",
    1000: "…‰ŒÆ—™",
    944: "œ",
}.items():
    _ADVANCES.update(dict.fromkeys(_characters, _width))
_OTHER = 556
_WIDE = 1000


@cache
def advance(character: str) -> int:
    """Advance width of one character in thousandths of the font size; 0 for what combines or is invisible."""
    known = _ADVANCES.get(character)
    if known is not None:
        return known
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    if unicodedata.east_asian_width(character) in ("W", "F"):
        return _WIDE
    base = unicodedata.normalize("NFD", character)[0]
    return _ADVANCES.get(base, _OTHER)


def text_width(text: str) -> int:
    """Sum of the advance widths, in thousandths of the font size."""
    return sum(map(advance, text))
