"""A document as a tree of markdown blocks: what a page is laid out and its label written from.

Text is a list of words, each with its style, so that layout may break it anywhere and a block that meets the
foot of the page may be cut there. Words hold no character that markdown would read as markup (see
:func:`plain`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from multiway_document.rendering.fonts import replace_uncovered

Style = Literal["regular", "bold", "italic", "bold_italic", "code"]
Word = tuple[str, Style]

_MARKS: dict[Style, str] = {"regular": "", "bold": "**", "italic": "*", "bold_italic": "***", "code": "`"}
_MARKUP = str.maketrans(dict.fromkeys("*_`<>[]|\\#~$", ""))


def plain(text: str) -> str:
    """``text`` without characters that mean something in markdown, nor a beginning that looks like a list
    mark.
    """
    text = " ".join(text.translate(_MARKUP).split())
    return re.sub(r"^(?:[-+=–•·]+|\d+[.)])\s*", "", text)


def words(text: str, style: Style = "regular") -> list[Word]:
    """The words of a plain text, all in one style."""
    return [(word, style) for word in text.split()]


def inline(run: Sequence[Word]) -> str:
    """Markdown of words with their styles."""
    parts = []
    for style, group in groupby(run, key=lambda word: word[1]):
        mark = _MARKS[style]
        parts.append(mark + " ".join(word for word, _ in group) + mark)
    return " ".join(parts)


@dataclass
class Heading:
    level: int
    words: list[Word]

    def markdown(self) -> str:
        return "#" * self.level + " " + " ".join(word for word, _ in self.words)


@dataclass
class Paragraph:
    words: list[Word]

    def markdown(self) -> str:
        return inline(self.words)


@dataclass
class TextLines:
    """Lines that stand one below the other, such as an address or a receipt's rows (cells are joined)."""

    rows: list[tuple[str, ...]]
    align: Literal["left", "center", "right", "spread"] = "left"
    style: Style = "regular"

    def markdown(self) -> str:
        return "\n".join(" ".join(row) for row in self.rows)


@dataclass
class ListItem:
    words: list[Word]
    children: ListBlock | None = None


@dataclass
class ListBlock:
    """``marker`` is what is printed: a bullet, or in ordered lists the mark after a number ("." or ")")."""

    ordered: bool
    marker: str
    items: list[ListItem] = field(default_factory=list)

    def printed(self, index: int) -> str:
        return f"{index + 1}{self.marker}" if self.ordered else self.marker

    def markdown(self) -> str:
        rows = []
        for i, item in enumerate(self.items):
            mark = f"{i + 1}." if self.ordered else "-"
            rows.append(f"{mark} {inline(item.words)}")
            if item.children is not None:
                indent = " " * (len(mark) + 1)
                rows += [indent + row for row in item.children.markdown().splitlines()]
        return "\n".join(rows)


@dataclass
class Quote:
    words: list[Word]

    def markdown(self) -> str:
        return "> " + inline(self.words)


@dataclass
class CodeBlock:
    rows: list[str]

    def markdown(self) -> str:
        return "```\n" + "\n".join(self.rows) + "\n```"


@dataclass
class Table:
    """``rows[0]`` is the header. Columns in ``right_aligned`` hold figures."""

    rows: list[list[str]]
    right_aligned: frozenset[int] = frozenset()
    borders: Literal["none", "rows", "all"] = "all"

    def markdown(self) -> str:
        def row(cells: Iterable[str]) -> str:
            return "| " + " | ".join(cells) + " |"

        return "\n".join([row(self.rows[0]), row(["---"] * len(self.rows[0])), *map(row, self.rows[1:])])


@dataclass
class HorizontalRule:
    def markdown(self) -> str:
        return "---"


Block = Heading | Paragraph | TextLines | ListBlock | Quote | CodeBlock | Table | HorizontalRule


def to_markdown(blocks: Iterable[Block]) -> str:
    """The blocks' markdown with an empty line between blocks, ended by a newline."""
    return "\n\n".join(block.markdown() for block in blocks) + "\n"


def restrict(block: Block, covered: frozenset[str]) -> Block:
    """The block in ``covered`` characters only; words that lose all of theirs are left out."""

    def text(raw: str) -> str:
        return replace_uncovered(raw, covered)

    def cell(raw: str) -> str:
        return " ".join(text(raw).split()) or "0"

    def run(raw: Sequence[Word]) -> list[Word]:
        return [(kept, style) for word, style in raw if (kept := text(word))] or [("0", "regular")]

    match block:
        case Heading():
            return Heading(block.level, run(block.words))
        case Paragraph():
            return Paragraph(run(block.words))
        case Quote():
            return Quote(run(block.words))
        case TextLines():
            return TextLines([tuple(map(cell, row)) for row in block.rows], block.align, block.style)
        case ListBlock():
            result = ListBlock(block.ordered, text(block.marker) or "-")
            for item in block.items:
                children = None if item.children is None else restrict(item.children, covered)
                assert children is None or isinstance(children, ListBlock)
                result.items.append(ListItem(run(item.words), children))
            return result
        case CodeBlock():
            return CodeBlock([text(row) or "0" for row in block.rows])
        case Table():
            return Table([list(map(cell, row)) for row in block.rows], block.right_aligned, block.borders)
        case HorizontalRule():
            return block
