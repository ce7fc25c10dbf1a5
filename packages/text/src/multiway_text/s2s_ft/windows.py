"""A text as sentences, and sentences as windows that a model reads whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from multiway_core.errors import InputError

Count = Callable[[str], int]
"""Tokens of a text."""


@dataclass(frozen=True)
class Span:
    """A piece of a text, ``text[start:end]``."""

    start: int
    end: int


def sentences(text: str, language: str = "en") -> list[Span]:
    """The sentences of a text, without the space around them. Raises InputError for a text without any."""
    try:
        from sentencex import get_sentence_boundaries
    except ModuleNotFoundError as error:
        raise InputError("sentences need sentencex: pip install sentencex") from error
    found = []
    for item in get_sentence_boundaries(language, text):
        part = text[item["start_index"] : item["end_index"]]
        start = item["start_index"] + len(part) - len(part.lstrip())
        if part.strip():
            found.append(Span(start, start + len(part.strip())))
    if not found:
        raise InputError("the text is empty")
    return found


def windows(text: str, parts: Sequence[Span], room: int, count: Count) -> list[Span]:
    """As many sentences side by side as ``room`` tokens hold; a longer sentence is divided between words.

    Every sentence is in exactly one window, so that nothing is cut.
    """
    found: list[Span] = []
    for part in (piece for whole in parts for piece in _divided(text, whole, room, count)):
        if found and count(text[found[-1].start : part.end]) <= room:
            found[-1] = Span(found[-1].start, part.end)
        else:
            found.append(part)
    return found


def around(parts: Sequence[Span], start: int, end: int, room: int, text: str, count: Count) -> Span:
    """The sentences that hold ``text[start:end]``, and as many before and behind them as ``room`` tokens hold."""
    inside = [i for i, part in enumerate(parts) if part.start < end and start < part.end]
    first, last = inside[0], inside[-1]
    while True:
        wider = next(
            (
                (a, b)
                for a, b in ((first - 1, last), (first, last + 1))
                if a >= 0 and b < len(parts) and count(text[parts[a].start : parts[b].end]) <= room
            ),
            None,
        )
        if wider is None:
            return Span(parts[first].start, parts[last].end)
        first, last = wider


def _divided(text: str, part: Span, room: int, count: Count) -> list[Span]:
    if count(text[part.start : part.end]) <= room:
        return [part]
    middle = (part.start + part.end) // 2
    spaces = [i for i in range(part.start + 1, part.end - 1) if text[i].isspace()]
    cut = min(spaces, key=lambda i: abs(i - middle), default=middle)
    halves = (Span(part.start, cut), Span(cut, part.end))
    return [piece for half in halves for piece in _divided(text, _trimmed(text, half), room, count)]


def _trimmed(text: str, part: Span) -> Span:
    piece = text[part.start : part.end]
    start = part.start + len(piece) - len(piece.lstrip())
    return Span(start, max(start, part.start + len(piece.rstrip())))
