"""The character set of the bundled reader, and normalisation of text to it.

The order is part of the bundled model: class ``i`` of the CTC head is ``ALPHABET[i - 1]`` (0 is the blank),
so characters are only ever appended.
"""

from __future__ import annotations

import unicodedata

ASCII = "".join(chr(code) for code in range(0x20, 0x7F))
LATIN_1 = "".join(chr(code) for code in range(0xA1, 0x100) if code != 0xAD)  # without the soft hyphen
TYPOGRAPHIC = "–—‘’‚“”„†‡•…‰‹›€™←→−≈≠≤≥∞√×÷ŒœŠšŽžŸıŁłĄąĆćĘęŃńŚśŹźŻżČčĎďĚěŇňŘřŤťŮůŐőŰűĞğİŞş□☐☑✓"
ALPHABET = "".join(dict.fromkeys(ASCII + LATIN_1 + TYPOGRAPHIC))

# What looks the same on paper is written one way, so that the model is never asked to tell them apart.
_SAME_ON_PAPER = str.maketrans(
    {
        "\u00a0": " ", "\u2002": " ", "\u2003": " ", "\u2009": " ", "\u202f": " ", "\t": " ",
        "\u200b": "", "\u00ad": "",
        "\u2010": "-", "\u2011": "-", "\u2012": "–", "\u2015": "—", "\u2219": "·",
        "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "\u02bc": "’", "′": "'", "″": '"',
    }
)  # fmt: skip
_KNOWN = frozenset(ALPHABET)


def normalise(text: str) -> str:
    """Text of one line in the alphabet: NFC, one space for every blank, ligatures spelled out.

    Characters outside the alphabet stay: :func:`restrict` drops them.
    """
    return unicodedata.normalize("NFC", text).translate(_SAME_ON_PAPER)


def restrict(text: str) -> str:
    """The normalised text without the characters that the alphabet lacks."""
    return "".join(character for character in normalise(text) if character in _KNOWN)
