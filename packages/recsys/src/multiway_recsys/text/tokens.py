"""Titles as word ids: word tokenization and the vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from multiway_core import config
from multiway_core.errors import DataError
from multiway_core.files import write_text
from numpy.typing import NDArray

PADDING = 0

_ABBREVIATIONS = (
    "jan|feb|mar|apr|aug|sept|sep|oct|nov|dec|mr|mrs|ms|dr|jr|sr|st|ft|mt|rep|sen|gov|gen|col|lt|sgt|capt|rev|prof|"
    "pres|vs|v|no|dept|inc|co|corp|ltd|etc|[^\\W\\d_]"
)
# One word at a time, the first alternative that fits (the text is in lower case):
_WORD = re.compile(
    rf"""
    (?:[^\W\d_]\.){{2,}}                   # initials keep their stops: u.s., a.m.
  | \b(?:{_ABBREVIATIONS})\.(?=\s+\S)     # so do abbreviations with a word behind them
  | can(?=not\b) | \w+(?=n['’]t\b)       # cannot = can not, don't = do n't
  | n['’]t\b | ['’](?:s|re|ve|ll|d|m)\b   # endings: 's 're 've 'll 'd 'm
  | [+-]?\d+(?:[.,:/]\d+)*\w*(?:-\w+)*   # numbers, times, dates, 3rd, 13-year-old
  | \w+(?:[-&/.]\w+|['’](?!(?:s|re|ve|ll|d|m|t)\b)\w+)*  # words with a hyphen, a slash, o'brien
  | \.\.+ | --+                          # dots and dashes in a row
  | [^\w\s]                              # any other mark by itself
    """,
    re.VERBOSE,
)


def split_words(text: str) -> list[str]:
    """The words and marks of a text, in lower case.

    The rule is the Penn Treebank's as far as headlines need it, close to NLTK's ``word_tokenize``, which GLORY and
    GLoCIM use: contractions are split (do n't, it 's), marks stand by themselves, hyphenated words and abbreviations
    stay whole. Curly apostrophes count as straight ones do, which NLTK does not do.
    """
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words by number; number 0 is padding and every unknown word."""

    words: tuple[str, ...]  # words[0] == ""

    @classmethod
    def of_texts(
        cls, texts: Iterable[str], *, min_count: int = 1, max_words: int | None = None
    ) -> Vocabulary:
        """Words of the training texts that occur ``min_count`` times, by frequency and then by spelling."""
        counts: dict[str, int] = {}
        for text in texts:
            for word in split_words(text):
                counts[word] = counts.get(word, 0) + 1
        kept = sorted(
            (word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w)
        )
        return cls(("", *kept[:max_words]))

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """From ``{"words": ["", ...]}`` or ``{"word": number, ...}`` (a published word dictionary, written as JSON).

        Raises ConfigError (not JSON) and DataError (numbers that are no positions).
        """
        content = config.read_json(path)
        listed = content.get("words")
        if len(content) == 1 and isinstance(listed, list):
            if not listed or listed[0] != "" or not all(isinstance(word, str) for word in listed):
                raise DataError(f'{path}: expected "words" to be a list of strings that begins with ""')
            return cls(tuple(listed))
        if not all(isinstance(number, int) and number >= 0 for number in content.values()):
            raise DataError(f"{path}: expected a number from 0 for each word")
        words = [""] * (max(content.values(), default=0) + 1)
        for word, number in content.items():
            if number != PADDING:
                words[number] = word
        return cls(tuple(words))

    def save(self, path: Path) -> None:
        """Write as JSON. Raises OutputError."""
        write_text(path, json.dumps({"words": list(self.words)}, ensure_ascii=False) + "\n")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Word -> number."""
        return {word: number for number, word in enumerate(self.words) if word}

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int32]:
        """The first ``length`` words of each text as numbers, 0 behind the end: (texts, length) int32."""
        ids = np.zeros((len(texts), length), np.int32)
        numbers = self.numbers
        for row, text in enumerate(texts):
            words = [numbers.get(word, PADDING) for word in split_words(text)[:length]]
            ids[row, : len(words)] = words
        return ids
