"""What is written on synthetic lines: running text, generated office and shop text, random strings."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multiway_document.alphabet import ALPHABET, ASCII, restrict
from multiway_document.rendering import corpus, generators
from multiway_document.rendering.corpus import Corpus, Split
from multiway_document.rendering.receipts import till_line

RANDOM_SHARE, SHUFFLED_SHARE, GENERATED_SHARE, TILL_SHARE, WORDS_SHARE = 0.10, 0.07, 0.20, 0.18, 0.06
UPPER_SHARE, TITLE_SHARE, ACCENTS_SHARE, MARKS_SHARE = 0.13, 0.05, 0.04, 0.10

_VISIBLE_ASCII = ASCII[1:]
_OTHERS = "".join(character for character in ALPHABET if character not in ASCII)
_ACCENTED: dict[str, str] = {}
for _character in _OTHERS:
    _base = unicodedata.normalize("NFD", _character)[0]
    if _base != _character:
        _ACCENTED[_base] = _ACCENTED.get(_base, "") + _character
for _base, _forms in (("o", "øœ"), ("O", "ØŒ"), ("a", "æ"), ("l", "ł"), ("i", "ı"), ("s", "ß")):
    _ACCENTED[_base] = _ACCENTED.get(_base, "") + _forms
_PAIRS = ["()", "[]", "{}", "“”", "‘’", "«»", "„“", "‹›", '""', "''", "<>", "**", "__", "``"]

FALLBACK_WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "at",
    "be",
    "this",
    "from",
    "have",
    "or",
    "by",
    "one",
    "had",
    "not",
    "but",
    "what",
    "all",
    "were",
    "when",
    "we",
    "there",
    "can",
    "an",
    "your",
    "which",
    "their",
    "said",
    "if",
    "do",
    "will",
    "each",
    "about",
    "how",
    "up",
    "out",
    "them",
    "then",
    "she",
    "many",
    "some",
    "so",
    "these",
    "would",
    "other",
    "into",
    "has",
    "more",
    "her",
    "two",
    "like",
    "him",
    "see",
    "time",
    "could",
    "no",
    "make",
    "than",
    "first",
    "been",
    "its",
    "who",
    "now",
    "people",
    "my",
    "made",
    "over",
    "did",
    "down",
    "only",
    "way",
    "find",
    "use",
    "may",
    "water",
    "long",
    "little",
    "very",
    "after",
    "words",
    "called",
    "just",
    "where",
    "most",
    "know",
    "paper",
    "page",
    "account",
    "number",
    "total",
    "amount",
    "report",
    "section",
    "table",
    "figure",
    "letter",
    "office",
    "street",
    "company",
    "invoice",
    "receipt",
    "customer",
    "service",
    "date",
    "jump",
    "quick",
    "lazy",
    "brown",
    "fox",
    "pack",
    "box",
    "five",
    "dozen",
    "jugs",
    "liquor",
    "quartz",
    "sphinx",
    "judge",
    "vow",
    "black",
    "zebra",
    "hymn",
    "exact",
    "size",
]


def _words() -> list[str]:
    path = Path("/usr/share/dict/words")
    if path.is_file():
        return [
            w
            for w in path.read_text("utf-8", "ignore").split()
            if 1 < len(w) < 16 and w.islower() and w.isalpha()
        ]
    return FALLBACK_WORDS


class TextSource:
    """Random lines of text, all within :data:`~multiway_document.alphabet.ALPHABET`, single-spaced and
    stripped.
    """

    def __init__(
        self, corpora: Sequence[Corpus] = (), glosses: Sequence[str] = (), words: Sequence[str] = ()
    ):
        self.corpora, self.glosses = list(corpora), list(glosses)
        self.words = list(words) or FALLBACK_WORDS
        self._cumulative = np.cumsum([c.weight for c in self.corpora]) if self.corpora else np.zeros(0)

    @classmethod
    def discover(cls, *, split: Split = "train") -> TextSource:
        """Everything usable on this machine on one side of the split; only generators and a word list if
        nothing.
        """
        return cls(corpus.discover(split), corpus.dictionary_glosses(split), _words())

    def passage(self, rng: np.random.Generator, length: int) -> str:
        """Running text of about ``length`` characters, cut between words."""
        if self.glosses and rng.random() < 0.06:
            text = self.glosses[int(rng.integers(len(self.glosses)))]
            start = text.find(" ", int(rng.integers(max(1, len(text) - length)))) + 1
            return text[start : start + length].rpartition(" ")[0] or text[start : start + length].strip()
        for _ in range(8):
            if not self.corpora:
                break
            kind = int(np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1]))
            text = self.corpora[kind].passage(rng, length)
            if text and _is_prose_like(text):
                return text
        return self.word_salad(rng, length)

    def word_salad(self, rng: np.random.Generator, length: int) -> str:
        """Unrelated words."""
        count = max(1, length // 7 + 1)
        text = " ".join(self.words[int(i)] for i in rng.integers(len(self.words), size=count))
        return text if len(text) <= length else text[:length].rpartition(" ")[0] or text[:length]

    def line(self, rng: np.random.Generator, max_characters: int, min_characters: int = 1) -> str:
        """One line of ``min_characters`` to ``max_characters`` characters, about uniform between."""
        length = int(rng.integers(min_characters, max_characters + 1))
        for _ in range(6):
            text = restrict(self._vary(rng, restrict(self._draw(rng, length))))
            text = " ".join(text.split())[:max_characters].strip()
            if len(text) >= min_characters:
                return text
        text = " ".join((text + " " + self.word_salad(rng, length + 20)).split())[:length].strip()
        return text if len(text) >= min_characters else random_string(rng, length, spaces=False)

    def _draw(self, rng: np.random.Generator, length: int) -> str:
        choice = rng.random()
        if choice < RANDOM_SHARE:
            return random_string(rng, length)
        choice -= RANDOM_SHARE
        if choice < SHUFFLED_SHARE:
            words = self.passage(rng, length).split()
            rng.shuffle(words)
            return " ".join(words)
        choice -= SHUFFLED_SHARE
        if choice < GENERATED_SHARE:
            return generators.line(rng, length, self.words)
        choice -= GENERATED_SHARE
        if choice < TILL_SHARE:
            return till_line(rng, length)
        choice -= TILL_SHARE
        if choice < WORDS_SHARE:
            return self.word_salad(rng, length)
        return self.passage(rng, length)

    def _vary(self, rng: np.random.Generator, text: str) -> str:
        choice = rng.random()
        if choice < UPPER_SHARE:
            text = restrict(text.upper())
        elif choice < UPPER_SHARE + TITLE_SHARE:
            text = " ".join(word[:1].upper() + word[1:] for word in text.split())
        if rng.random() < ACCENTS_SHARE:
            text = put_accents(rng, text)
        if rng.random() < MARKS_SHARE:
            text = put_marks(rng, text)
        return text


def _is_prose_like(text: str) -> bool:
    """Not a rule of dashes or other drawing that gives no letters to read."""
    return 2 * sum(map(str.isalnum, text)) >= len(text)


def random_string(rng: np.random.Generator, length: int, *, spaces: bool = True) -> str:
    """Random characters: 75 % from ASCII, the rest evenly from the other 170, with or without gaps."""
    share = rng.choice([0.0, 0.25, 0.6])
    gap = 0.15 if spaces else 0.0
    characters = []
    for draw, which, index in zip(rng.random(length), rng.random(length), rng.random(length), strict=True):
        if draw < gap:
            characters.append(" ")
        elif which < share:
            characters.append(_OTHERS[int(index * len(_OTHERS))])
        else:
            characters.append(_VISIBLE_ASCII[int(index * len(_VISIBLE_ASCII))])
    return "".join(characters)


def put_accents(rng: np.random.Generator, text: str) -> str:
    """A third of the letters that have accented forms in the alphabet get one."""
    characters = list(text)
    for i, draw in enumerate(rng.random(len(characters))):
        if draw < 0.33 and (forms := _ACCENTED.get(characters[i])):
            characters[i] = forms[int(rng.integers(len(forms)))]
    return "".join(characters)


def put_marks(rng: np.random.Generator, text: str) -> str:
    """A word put between quotes or brackets, or joined with, or replaced by, a symbol."""
    words = text.split()
    if not words:
        return text
    i = int(rng.integers(len(words)))
    choice = rng.random()
    if choice < 0.5:
        pair = _PAIRS[int(rng.integers(len(_PAIRS)))]
        words[i] = pair[0] + words[i] + pair[1]
    elif choice < 0.75:
        marks = _OTHERS + _VISIBLE_ASCII[:15] * 3
        words[i] += marks[int(rng.integers(len(marks)))]
    else:
        words.insert(i, _OTHERS[int(rng.integers(len(_OTHERS)))])
    return " ".join(words)
