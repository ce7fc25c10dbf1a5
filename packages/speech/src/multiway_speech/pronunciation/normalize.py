"""Written English -> what is said: words in lower case, letters by name in upper case, and marks.

All patterns have bounded repetitions, so that time grows with the text's length and no faster.
"""

from __future__ import annotations

import re
import unicodedata

from multiway_speech.pronunciation.lexicon import look_up
from multiway_speech.pronunciation.numbers import cardinal, decimal, digits, ordinal, year

_SINGLE = str.maketrans(
    {
        "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l",
        "Ł": "L", "đ": "d", "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "ı": "i", "ħ": "h",
        "‘": "'", "’": "'", "ʼ": "'", "`": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
        "–": "-", "—": " -- ", "―": " -- ", "‐": "-", "‑": "-", "−": "-", "…": " -- ",
        "×": " times ", "÷": " divided by ", "°": " degrees ", "©": " copyright ", "®": " ", "™": " ",
        "¿": " ", "¡": " ", "•": " ; ",
    }
)  # fmt: skip

_ABBREVIATIONS = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor", "jr": "junior",
    "sr": "senior", "vs": "versus", "etc": "et cetera", "gen": "general", "col": "colonel", "sgt": "sergeant",
    "lt": "lieutenant", "capt": "captain", "gov": "governor", "sen": "senator", "rep": "representative",
    "rev": "reverend", "hon": "honorable", "pres": "president", "dept": "department", "univ": "university",
    "assn": "association", "bros": "brothers", "inc": "incorporated", "ltd": "limited", "corp": "corporation",
    "co": "company", "ave": "avenue", "blvd": "boulevard", "rd": "road", "mt": "mount", "ft": "fort",
    "jan": "january", "feb": "february", "mar": "march", "apr": "april", "jun": "june", "jul": "july",
    "aug": "august", "sep": "september", "sept": "september", "oct": "october", "nov": "november",
    "dec": "december", "approx": "approximately", "est": "established", "fig": "figure", "vol": "volume",
}  # fmt: skip
"""Only with their dot."""

_SYMBOLS = {"&": "and", "+": "plus", "=": "equals", "@": "at", "#": "number", "%": "percent", "*": "",
            "<": "less than", ">": "greater than", "~": "about", "/": "slash", "\\": "backslash", "^": "",
            "_": "", "$": "dollars", "€": "euros", "£": "pounds", "|": ""}  # fmt: skip
_WORD = r"[A-Za-z]+(?:'[A-Za-z]+)*"
_TOKEN = re.compile(rf"(?P<word>{_WORD})|(?P<mark>[,.?!;:()\[\]{{}}-]+)|(?P<symbol>[&+=@#%<>~/\\$€£])")
_STRONGEST = "?!.:;-,"
"""Of several marks in a row one is kept: the first of these."""


def fold(text: str) -> str:
    """ASCII letters, digits and marks for any Unicode text; what has no such form is left out."""
    text = unicodedata.normalize("NFKD", text.translate(_SINGLE))
    text = "".join(c for c in text if not unicodedata.combining(c))
    return "".join(c if c.isascii() or c in "€£" else " " for c in text.translate(_SINGLE))


def _initials(match: re.Match[str]) -> str:
    return " ".join(match[0].replace(".", " ").upper().split()) + " "


def _number(match: re.Match[str]) -> str:
    text = match[0].replace(",", "")
    if "." in text:
        return f" {decimal(text)} "
    if len(text) == 4 and "," not in match[0] and 1100 <= int(text) < 2100:
        return f" {year(int(text))} "
    return (
        f" {digits(text) if len(text) > 15 or (text[0] == '0' and len(text) > 1) else cardinal(int(text))} "
    )


def expand(text: str) -> str:
    """Numbers, abbreviations and symbols of a folded text written out."""
    text = re.sub(r"\be\.g\.", "for example", text, flags=re.I)
    text = re.sub(r"\bi\.e\.", "that is", text, flags=re.I)
    text = re.sub(r"\b(?:[A-Za-z]\.){2,12}", _initials, text)
    text = re.sub(r"\bSt\.(?= [A-Z])", "saint", text)
    text = re.sub(r"\b[Ss]t\.", "street", text)
    text = re.sub(r"\bNo\.(?= ?\d)", "number ", text)
    text = re.sub(
        r"\b([A-Za-z]{2,6})\.(?! *$)",
        lambda m: (
            _ABBREVIATIONS.get(m[1].lower(), m[0]) if m[1][0].isupper() or m[1] in ("vs", "etc") else m[0]
        ),
        text,
    )
    text = re.sub(r"(?<![A-Za-z])([A-Z])\.(?= {0,3}[A-Z])", r"\1 ", text)
    text = re.sub(
        r"\$ ?([\d,]{1,20}(?:\.\d{1,9})?)( (?:hundred|thousand|million|billion|trillion))?",
        r"\1\2 dollars",
        text,
    )
    text = re.sub(r"(?<![\d.])(\d{1,15})(?:st|nd|rd|th)\b", lambda m: f" {ordinal(int(m[1]))} ", text)
    return re.sub(r"\d{1,3}(?:,\d{3}){1,6}(?:\.\d{1,40})?|\d{1,40}(?:\.\d{1,40})?", _number, text)


def normalize(text: str) -> list[str]:
    """What is said of ``text``, in order: words in lower case, letters by name in upper case, marks.

    There is never a mark first, nor are there two marks in a row; the last item is a mark if there is any word.
    """
    text = expand(fold(text))
    shouting = not re.search("[a-z]", text)
    said: list[str] = []
    for match in _TOKEN.finditer(text):
        if match["word"]:
            said += _case(match["word"], shouting)
        elif match["symbol"]:
            said += _SYMBOLS[match["symbol"]].split()
        else:
            mark = _mark(
                match[0], text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
            )
            if mark and said:
                if said[-1] in _STRONGEST:
                    said[-1] = min(said[-1], mark, key=_STRONGEST.index)
                else:
                    said.append(mark)
    if said and said[-1] in ",;:-":
        said[-1] = "."
    elif said and said[-1] not in _STRONGEST:
        said.append(".")
    return said


def _mark(marks: str, before: str, after: str) -> str:
    if marks == "-" and before.isalnum() and after.isalnum():
        return ""  # a hyphen
    marks = re.sub(r"[()\[\]{}]", ",", marks)
    if "..." in marks:
        marks = marks.replace("...", "-")
    return min(marks, key=_STRONGEST.index)


_SPELT = {"us", "it", "id", "ip", "os", "pr", "hr", "er", "ad", "ai"}


def _case(word: str, shouting: bool) -> list[str]:
    """A word as it is said: in lower case, or letter by letter."""
    lower = word.lower()
    body = lower.removesuffix("'s")
    if len(body) < 2 or not word[: len(body)].isupper():
        return [lower]
    known = look_up(body) is not None
    if (known and (shouting or body not in _SPELT)) or (
        not known and len(body) > 5 and re.search("[aeiouy]", body)
    ):
        return [lower]
    letters = list(body.upper())
    return [*letters[:-1], letters[-1] + lower[len(body) :]]
