"""Pieces of an uncased WordPiece model as text, with the spelling and spacing that the source has.

A model that knows no capitals writes ``what did tesla design`` and ``perl : : critic``. Words that stand in the source
take their form there, and neighbours that touch there touch; the rest follows the rules of English typesetting.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from multiway_core.tokenization import TextTokenizer

_CLOSING = re.compile(r"[.,;:!?%)\]}…]+")
_OPENING = re.compile(r"[(\[{]+")
_CLITICS = frozenset(["s", "t", "re", "ll", "ve", "d", "m"])
_COMMON = (
    "a an and are as at be been but by can for from had has have he her his how if in into is it its many may more "
    "most no not of on one or other she some such than that the their then there these they this those to two use used "
    "using was we were what when where which while who will with you your"
)
_FUNCTION_WORDS = frozenset(_COMMON.split())


class Spelling:
    """How a source writes its words."""

    def __init__(self, tokenizer: TextTokenizer, source: str) -> None:
        self.tokenizer = tokenizer
        found = tokenizer.encode_with_offsets(source, add_special_tokens=False)
        words: list[tuple[str, int, int]] = []
        special = set(tokenizer.special.values())  # what the vocabulary has no piece for among them
        for index, (start, end) in zip(found.ids, found.offsets, strict=True):
            piece = "" if index in special else tokenizer.engine.id_to_token(index) or ""
            if not piece:
                continue
            if piece.startswith("##") and words:
                words[-1] = words[-1][0] + piece[2:], words[-1][1], end
            else:
                words.append((piece, start, end))
        self.forms: dict[str, Counter[str]] = defaultdict(Counter)
        self.touching: Counter[tuple[str, str]] = Counter()
        before, before_end, begins = "", -1, True
        for word, start, end in words:
            form = source[start:end]
            is_plain = begins and form[1:] == form[1:].lower() and word in _FUNCTION_WORDS
            self.forms[word][form.lower() if is_plain else form] += 1
            self.touching[before, word] += 1 if start == before_end else -1
            before, before_end, begins = word, end, word in ".!?" or (begins and not word[0].isalnum())

    def write(self, ids: Sequence[int]) -> str:
        """The text of a target; its first letter is a capital unless the source says otherwise."""
        words: list[str] = []
        for piece in self._pieces(ids):
            if piece.startswith("##") and words:
                words[-1] += piece[2:]
            else:
                words.append(piece)
        text, in_quotes, before = "", False, ""
        for place, word in enumerate(words):
            form = self.forms[word].most_common(1)[0][0] if word in self.forms else word
            if (place == 0 and word not in self.forms) or (place == 0 and form in _FUNCTION_WORDS):
                form = form[:1].upper() + form[1:]
            following = words[place + 1] if place + 1 < len(words) else ""
            joined = not text or self._touch(before, word, following, in_quotes)
            if word == '"':
                in_quotes = not in_quotes
            text += form if joined else f" {form}"
            before = word
        return text

    def _touch(self, before: str, word: str, following: str, in_quotes: bool) -> bool:
        seen = self.touching[before, word]
        if seen:
            return seen > 0
        if word == "'":
            return following in _CLITICS
        if before == "'":
            return word in _CLITICS
        if word == '"' or before == '"':
            return in_quotes
        return bool(_CLOSING.fullmatch(word) or _OPENING.fullmatch(before))

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        special = set(self.tokenizer.special.values())
        names = (self.tokenizer.engine.id_to_token(int(i)) for i in ids if int(i) not in special)
        return [name for name in names if name]
