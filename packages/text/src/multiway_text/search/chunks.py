"""Texts cut into passages of a bounded number of tokens, at sentences and paragraphs, with their characters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from multiway_core.tokenization import TextTokenizer

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE = re.compile(
    r"(?<=[.!?…])[\"'”’)\]]*\s+"  # the end of a sentence before a space
    r"|(?<=[。！？])"  # where none is written
    r"|\n(?=[^\S\n]*(?:[-*+#>|]|\d+[.)])\s)"  # lists, headings, tables
)
_HEADING = re.compile(r"#{1,6}\s")


@dataclass(frozen=True)
class Chunk:
    """A passage: characters [start, end) of a section of a file, and where that section is, such as ``page 3``."""

    text: str
    start: int
    end: int
    place: str = ""


@dataclass(frozen=True)
class ChunkSettings:
    """``tokens``: the most of a passage; ``overlap``: the most that a passage repeats of the one before."""

    tokens: int = 200
    overlap: int = 0


@dataclass(frozen=True)
class _Piece:
    start: int
    end: int
    tokens: int
    heading: bool  # a heading stands with what follows it
    paragraph: bool  # the first of a paragraph


def sentences(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of the sentences of a text, without the spaces around them; empty ones are left out."""
    return [span for spans in _paragraphs(text) for span in spans]


def split(text: str, tokenizer: TextTokenizer, settings: ChunkSettings, place: str = "") -> list[Chunk]:
    """The passages of a text in order. A sentence longer than a passage is cut between tokens."""
    found: list[Chunk] = []
    held: list[_Piece] = []
    count = fresh = 0  # tokens held, and how many pieces of them are not a repetition
    for piece in _pieces(text, tokenizer, settings.tokens):
        full = count + piece.tokens > settings.tokens
        good_end = piece.paragraph and (piece.heading or 2 * count >= settings.tokens)
        if fresh and (full or good_end):
            found.append(_chunk(text, held, place))
            held = _repeated(held, min(settings.overlap, settings.tokens - piece.tokens))
            count, fresh = sum(one.tokens for one in held), 0
        held.append(piece)
        count, fresh = count + piece.tokens, fresh + 1
    if fresh:
        found.append(_chunk(text, held, place))
    return found


def _chunk(text: str, pieces: list[_Piece], place: str) -> Chunk:
    start, end = pieces[0].start, pieces[-1].end
    return Chunk(text[start:end], start, end, place)


def _repeated(pieces: list[_Piece], room: int) -> list[_Piece]:
    """The last pieces that fit into ``room`` tokens, never all of them."""
    kept: list[_Piece] = []
    for piece in reversed(pieces[1:]):
        room -= piece.tokens
        if room < 0:
            break
        kept.insert(0, piece)
    return kept


def _pieces(text: str, tokenizer: TextTokenizer, limit: int) -> list[_Piece]:
    """Sentences, and parts of those longer than ``limit`` tokens."""
    paragraphs = _paragraphs(text)
    spans = [span for paragraph in paragraphs for span in paragraph]
    counts = map(len, tokenizer.encode_batch([text[start:end] for start, end in spans]))
    firsts = {paragraph[0] for paragraph in paragraphs}
    found = []
    for (start, end), tokens in zip(spans, counts, strict=True):
        heading = _HEADING.match(text, start) is not None
        first = (start, end) in firsts or heading
        if tokens <= limit:
            found.append(_Piece(start, end, tokens, heading, first))
            continue
        offsets = [span for span in tokenizer.encode_with_offsets(text[start:end]).offsets if span[1]]
        cuts = [0, *(offsets[place][0] for place in range(limit, len(offsets), limit)), end - start]
        for number, (low, high) in enumerate(pairwise(cuts)):
            if high > low:
                size = min(limit, len(offsets) - number * limit)
                found.append(_Piece(start + low, start + high, size, heading, first and number == 0))
    return found


def _paragraphs(text: str) -> list[list[tuple[int, int]]]:
    found = []
    for low, high in _between(_PARAGRAPH, text, 0, len(text)):
        spans = [_stripped(text, *span) for span in _between(_SENTENCE, text, low, high)]
        spans = [(start, end) for start, end in spans if end > start]
        if spans:
            found.append(spans)
    return found


def _between(pattern: re.Pattern[str], text: str, start: int, end: int) -> list[tuple[int, int]]:
    """What stands between the matches; closing quotes that belong to a sentence stay with it."""
    found = []
    for match in pattern.finditer(text, start, end):
        cut = match.start() + len(match.group().rstrip())
        found.append((start, cut))
        start = match.end()
    return [*found, (start, end)]


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())
