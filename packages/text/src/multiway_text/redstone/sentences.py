"""Sentences of a text, with a limit of time, and the normal form in which rules look at text."""

from __future__ import annotations

import re
import unicodedata

from multiway_core.errors import InputError

_LINE_SEPARATORS = re.compile("[\u2028\u2029]+")
_SPACES = re.compile("[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
MAX_LINE = 100_000
"""Characters of a line that is still divided into sentences: the splitter's time is then bounded."""


def split_sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of each line, without the space around them; a line over ``MAX_LINE`` is one sentence."""
    try:
        from sentencex import segment
    except ModuleNotFoundError as error:
        raise InputError("sentences need sentencex: pip install 'multiway-text[redstone]'") from error
    found: list[str] = []
    for line in text.split("\n"):
        parts = segment(language, line) if 0 < len(line) <= MAX_LINE else [line]
        found += [part.strip() for part in parts if part.strip()]
    return found


def normalized(text: str) -> str:
    """NFKC, lower case, trimmed; line and paragraph separators -> newline, runs of space characters -> one blank."""
    text = unicodedata.normalize("NFKC", text).lower().strip()
    return _SPACES.sub(" ", _LINE_SEPARATORS.sub("\n", text))
