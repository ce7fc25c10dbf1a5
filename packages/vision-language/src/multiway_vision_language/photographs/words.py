"""Phrases -> nouns that the detector or the classifier knows, with the colours that they are said to have.

The table of words comes from WordNet 3.0 (Princeton University; its licence is beside this file) by ``wordnet.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

COLORS = ("black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow")
_SAME_COLOR = {
    "grey": "gray",
    "golden": "yellow",
    "blond": "yellow",
    "violet": "purple",
    "silver": "gray",
    "beige": "brown",
}
_DETERMINERS = {
    "a", "an", "the", "this", "that", "these", "those", "some", "any", "all", "every", "each", "my", "your", "his",
    "her", "its", "our", "their", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "both", "several", "many", "few", "no",
}  # fmt: skip
# What follows the noun begins with one of these.
_BEHIND = {
    "in", "on", "at", "with", "of", "near", "by", "across", "along", "outside", "that", "which", "who", "whose",
    "wearing", "holding", "riding", "sitting", "standing", "lying", "eating", "walking", "running", "playing",
    "driving", "flying", "looking", "from", "to", "for",
}  # fmt: skip
# The place of one thing among others: what the network was taught.
_RELATION = re.compile(
    r"\b(left|right|top|bottom|above|below|between|closest|nearest|next to|beside|behind|under|over|largest|biggest|"
    r"smallest|middle|center|centre|in front|inside|first|second|third|last)\b"
)  # fmt: skip
_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "knives": "knife",
    "geese": "goose", "wolves": "wolf", "calves": "calf", "buses": "bus", "loaves": "loaf", "oxen": "ox",
}  # fmt: skip
_LONGEST_NAME = 4


@dataclass(frozen=True)
class Noun:
    """What a phrase asks for.

    Attributes:
        word: the noun as the table has it.
        kinds: classes of the detector.
        classes: classes of the classifier.
        mode: empty: a kind says it all; ``narrower``: some of the classifier's classes of a kind; ``wider``: all of
            several; ``other``: none of the detector's.
        colors: of :data:`COLORS`.
    """

    word: str
    kinds: frozenset[int]
    classes: tuple[int, ...]
    mode: str
    colors: tuple[str, ...] = ()


@cache
def table() -> dict[str, Noun]:
    """All known nouns."""
    found = {}
    for line in Path(__file__).with_name("words.tsv").read_text(encoding="utf-8").splitlines():
        word, kinds, classes, mode = line.split("\t")
        found[word] = Noun(word, frozenset(_numbers(kinds)), tuple(_numbers(classes)), mode)
    return found


@cache
def classes_of_kind() -> dict[int, tuple[int, ...]]:
    """Classes of the classifier that are a kind of the detector's."""
    found: dict[int, tuple[int, ...]] = {}
    for noun in table().values():
        if not noun.mode and len(noun.kinds) == 1:
            (kind,) = noun.kinds
            found[kind] = max(found.get(kind, ()), noun.classes, key=len)
    return found


def read_phrase(phrase: str) -> Noun | None:
    """The noun of a phrase such as "two red cars on a road", or None: unknown, or told by its place among others.

    What follows the noun is not looked at, unless it is a relation that the network knows ("left of the dog").
    """
    text = phrase.lower()
    if _RELATION.search(text):
        return None
    words = re.findall(r"[a-z][a-z-]*", text)
    while words and words[0] in _DETERMINERS:
        words = words[1:]
    for place, word in enumerate(words):
        if place and word in _BEHIND:
            words = words[:place]
            break
    for length in range(min(_LONGEST_NAME, len(words)), 0, -1):
        found = lookup(" ".join(words[-length:]))
        if found is not None:
            before = words[: len(words) - length]
            colors = dict.fromkeys(color for word in before if (color := _color(word)) is not None)
            return Noun(found.word, found.kinds, found.classes, found.mode, tuple(colors))
    return None


def lookup(name: str) -> Noun | None:
    """A noun, singular or plural."""
    first, _, last = name.rpartition(" ")
    forms = [last, _IRREGULAR.get(last, last)]
    if last.endswith("ies"):
        forms.append(last[:-3] + "y")
    if last.endswith("es"):
        forms.append(last[:-2])
    if last.endswith("s"):
        forms.append(last[:-1])
    for form in forms:
        found = table().get(f"{first} {form}".strip())
        if found is not None:
            return found
    return None


def _color(word: str) -> str | None:
    word = _SAME_COLOR.get(word, word)
    return word if word in COLORS else None


def _numbers(runs: str) -> list[int]:
    numbers: list[int] = []
    for run in runs.split():
        first, _, last = run.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
