"""The symbol set: the 39 phones of CMUdict (vowels with stress), a word boundary, marks."""

from __future__ import annotations

BOUNDARY = "|"
"""Stands between two words that no mark parts."""

MARKS = (",", ".", "?", "!", ";", ":", "-")
"""What the voice does between words; a dash and an ellipsis are ``-``."""

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")

# fmt: off
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N",
    "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH",
)
# fmt: on

STRESSES = ("0", "1", "2")
"""None, primary, secondary."""

SYMBOLS: tuple[str, ...] = (
    BOUNDARY,
    *MARKS,
    *CONSONANTS,
    *(vowel + stress for vowel in VOWELS for stress in STRESSES),
)
"""All symbols, 77. A model's embedding rows stand in this order: it must never change."""


def is_vowel(phone: str) -> bool:
    """Whether a symbol is a vowel; in CMUdict's notation those and only those end with a digit."""
    return phone[-1] in STRESSES


def bare(phone: str) -> str:
    """A phone without its stress."""
    return phone.rstrip("012")
