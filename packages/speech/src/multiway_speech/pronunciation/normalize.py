"""Text normalization: written English -> spoken words in lower case, letters by name in upper case, and marks."""

from __future__ import annotations

import re
import unicodedata

from multiway_speech.pronunciation.lexicon import look_up
from multiway_speech.pronunciation.verbalize import expand

_WRITTEN_OUT = str.maketrans(
    {
        "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
        "đ": "d", "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "ı": "i", "ħ": "h", "Ħ": "H",
        "‘": "'", "’": "'", "ʼ": "'", "′": "'", "`": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"',
        "»": '"', "–": "-", "—": " -- ", "―": " -- ", "‐": "-", "‑": "-", "−": "-", "…": " -- ", "⁄": "/",
        "×": " x ", "÷": " divided by ", "°": " degrees ", "©": " copyright ", "®": " ", "™": " ", "•": " ; ",
        "¢": " cents ", "≈": " about ", "≠": " is not equal to ", "±": " plus or minus ",
        "≤": " at most ", "≥": " at least ", "→": " to ", "√": " square root of ", "∞": " infinity ", "²": " squared ",
        "³": " cubed ", "½": " one half ", "⅓": " one third ", "⅔": " two thirds ", "¼": " one quarter ",
        "¾": " three quarters ", "。": ". ", "、": ", ",
    }
)  # fmt: skip
_GREEK = re.compile("(?<![\u0370-\u03ffA-Za-z])[\u0391-\u03a9\u03b1-\u03c9](?![\u0370-\u03ff])")
_TOKEN = re.compile(
    r"(?P<word>(?<![A-Za-z])'(?:em|til|tis|twas|cause|bout|round)\b|[A-Za-z]+(?:'[A-Za-z]+)*)"
    r"|(?P<mark>[,.?!;:()\[\]{}-]+)|(?P<symbol>[&+=@#%<>~$€£¥₹])",
    re.I,
)
_SYMBOLS = {"&": "and", "+": "plus", "=": "equals", "@": "at", "#": "number", "%": "percent", "<": "less than",
            ">": "greater than", "~": "about", "$": "dollars", "€": "euros", "£": "pounds",
            "¥": "yen", "₹": "rupees"}  # fmt: skip
_STRONGEST = "?!.:;-,"
"""Of several marks in a row one is kept: the first of these."""
_SPELT = frozenset(("us", "it", "id", "ip", "os", "pr", "hr", "er", "ad", "ai", "pa", "la", "de"))
"""Words that in upper case, in a text that is not all in upper case, are abbreviations."""
_READ = 5
"""An unknown word of more upper-case letters is read, not spelt."""


def normalize(text: str) -> list[str]:
    """What is said of ``text``, in order: words in lower case, letters by name in upper case, marks.

    There is never a mark first, nor are there two marks in a row; the last item is a mark if there is any word.
    """
    text = expand(fold(text))
    shouting = not re.search("[a-z]", text)
    said: list[str] = []
    for match in _TOKEN.finditer(text):
        if match["word"]:
            starts = not said or said[-1] in ".?!:"
            said += _as_said(match["word"], starts, shouting)
        elif match["symbol"]:
            said += _SYMBOLS[match["symbol"]].split()
        elif said:
            mark = _mark(match, text)
            if mark and said[-1] in _STRONGEST:
                said[-1] = min(said[-1], mark, key=_STRONGEST.index)
            elif mark:
                said.append(mark)
    if said and said[-1] in ",;:-":
        said[-1] = "."
    elif said and said[-1] not in _STRONGEST:
        said.append(".")
    return said


def fold(text: str) -> str:
    """ASCII letters, digits and marks, and €, £, ¥ and ₹, of any Unicode text; what has no such form is left out."""
    text = re.sub(r"\n\s*\n", " . ", text)
    text = re.sub(r"(?<=\d)(?=[½⅓⅔¼¾])", " and ", text)
    text = _GREEK.sub(_greek, text.translate(_WRITTEN_OUT))
    text = unicodedata.normalize("NFKD", text).translate(_WRITTEN_OUT)
    return " ".join("".join(map(_ascii, text)).split())


def _ascii(character: str) -> str:
    if character.isascii() or character in "€£¥₹":
        return character
    if unicodedata.combining(character) or character in "\u200b\u200d\u00ad\ufe0f":
        return ""
    return str(unicodedata.decimal(character, " "))


def _greek(match: re.Match[str]) -> str:
    """The name of a Greek letter that stands alone, as in formulas."""
    name = unicodedata.name(match[0], "").rpartition(" ")[2].lower().replace("lamda", "lambda")
    return f"{name} " if match.string[match.end() : match.end() + 1].isalnum() else name


def _mark(match: re.Match[str], text: str) -> str:
    """The one mark of several, or nothing for a hyphen."""
    marks = match[0]
    if marks == "-" and text[match.start() - 1].isalnum() and text[match.end() : match.end() + 1].isalnum():
        return ""
    marks = re.sub(r"[()\[\]{}]", ",", marks.replace("...", "-"))
    return min(marks, key=_STRONGEST.index)


def _as_said(word: str, starts: bool, shouting: bool) -> list[str]:
    """A word in lower case, or letter by letter; ``starts``: it begins a sentence."""
    lower = word.lower()
    body, ending = re.fullmatch(r"(.*?)('?s?)", word, re.S).groups()  # type: ignore[union-attr]
    if len(word) == 1:
        return (
            [lower]
            if lower in "ai" and (word.islower() or starts or shouting or word == "I")
            else [word.upper()]
        )
    if word.islower() or word[1:].islower() or "'" in body:
        return [lower]
    if body.isupper():
        known = look_up(body.lower()) is not None
        if known and len(body) > 1 and (shouting or body.lower() not in _SPELT):
            return [lower]
        if not known and len(body) > _READ and re.search("[AEIOUY]", body):
            return [lower]
        return [*body[:-1], body[-1] + (f"'{ending[-1]}" if ending.strip("'") else "")]
    if look_up(lower) is not None:
        return [lower]
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z']+", word)  # as in camelCase
    return [item for part in parts for item in _as_said(part, False, shouting)] if len(parts) > 1 else [lower]
