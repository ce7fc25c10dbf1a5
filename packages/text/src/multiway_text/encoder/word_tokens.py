"""Words and their tokens, for tags: the first token of a word carries its tag."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from multiway_core.tokenization import TextTokenizer

_WORD = re.compile(r"\w+|[^\w\s]")


def word_spans(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of the words and marks of a text."""
    return [match.span() for match in _WORD.finditer(text)]


def tokens_of(tokenizer: TextTokenizer, words: Sequence[str]) -> list[list[int]]:
    """The tokens of each word as they are inside a text; none for a word that the vocabulary leaves out."""
    if not words:
        return []
    if tokenizer.kind == "byte-level BPE":  # whose words begin with their space
        words = [f" {word}" for word in words]
    return tokenizer.encode_batch(words)


def windows(pieces: Sequence[Sequence[int]], room: int) -> Iterator[range]:
    """Runs of words whose tokens fit into ``room`` together; a longer word stands alone."""
    start, used = 0, 0
    for place, ids in enumerate(pieces):
        if used and used + len(ids) > room:
            yield range(start, place)
            start, used = place, 0
        used += len(ids)
    if start < len(pieces):
        yield range(start, len(pieces))


def first_places(length: int, firsts: Sequence[int], end: int) -> list[int]:
    """For each of ``length`` tokens the place of its word's first; special tokens (from ``end`` on, too) are their own.

    ``firsts``: the place of each word's first token, in order.
    """
    found = list(range(length))
    for first, stop in zip(firsts, [*firsts[1:], end], strict=True):
        found[first : min(stop, end)] = [first] * (min(stop, end) - first)
    return found


def joined(
    tokenizer: TextTokenizer, pieces: Sequence[Sequence[int]], room: int
) -> tuple[list[int], list[int]]:
    """(ids with special tokens around them, the place of each word's first token) of words, cut at ``room`` tokens."""
    ids: list[int] = []
    firsts: list[int] = []
    before = len(tokenizer.engine.frame.prefix)
    for piece in pieces:
        firsts.append(before + len(ids))
        ids += piece
    return tokenizer.add_special_tokens(ids[:room])[0], firsts
