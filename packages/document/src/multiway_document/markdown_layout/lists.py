"""Lists: rows that begin with a bullet or a number, nested by indentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from multiway_document.markdown_layout.rows import EM_TO_X, PlacedWord, Row
from multiway_document.rendering.markdown_tree import ListBlock, ListItem, Word

_BULLETS = frozenset("•·▪◦‣●○■□➢*-–—+")
_LIKE_BULLETS = frozenset("oec°©¢®»>«=~.0")
"""What a bullet may be read as; taken for one only where it stands clear of the text."""
_NUMBER = re.compile(r"^\(?(\d{1,3}|[a-z])[.)]$")

_PAGE_NUMBER = re.compile(r"^[-–—]\s*\d+\s*[-–—]?$")


@dataclass(frozen=True)
class Mark:
    """The printed mark of a list item: where it is, where the text begins, and how many words it takes up."""

    x: float
    text_x: float
    ordered: bool
    words: int


def find_mark(row: Row, follows_gap: bool) -> Mark | None:
    """The list mark that a row begins with, if any.

    A row at the column's left edge is an item only where it begins a paragraph (``follows_gap``).
    """
    em = EM_TO_X * row.x_height
    if row.mark is not None:
        return Mark(row.mark, row.x0, False, 0)
    if len(row.words) < 2 or _PAGE_NUMBER.match(row.text):
        return None
    first, second = row.words[0], row.words[1]
    gap = second.x0 - first.x1
    inset = row.x0 - row.left
    clear = gap > 0.55 * em and inset > 0.3 * em
    if _NUMBER.match(first.text):
        lettered = first.text.strip("(.)").isalpha()
        if inset > 0.3 * em or (follows_gap and (gap > 0.3 * em or not lettered)):
            return Mark(first.x0, second.x0, True, 1)
        return None
    if first.text in _BULLETS and (inset > 0.3 * em or follows_gap):
        return Mark(first.x0, second.x0, False, 1)
    if first.text in _LIKE_BULLETS and clear and first.x1 - first.x0 < 0.8 * em:
        return Mark(first.x0, second.x0, False, 1)
    return None


def to_lists(rows: Sequence[Row], marks: Sequence[Mark | None]) -> list[ListBlock]:
    """The lists of a run of rows that starts with a marked one; rows without a mark go on with the last item.

    More than one list comes out where bullets and numbers follow each other at the outermost level.
    """
    result: list[ListBlock] = []
    open_lists: list[tuple[float, ListBlock]] = []  # how far the marks are set in, outermost first
    for row, mark in zip(rows, marks, strict=True):
        em = EM_TO_X * row.x_height
        if mark is None:
            extend(open_lists[-1][1].items[-1].words, row.words)
            continue
        inset = mark.x - row.left
        while len(open_lists) > 1 and inset < open_lists[-1][0] - 0.7 * em:
            open_lists.pop()
        words: list[Word] = []
        extend(words, row.words[mark.words :])
        if open_lists and inset > open_lists[-1][0] + 0.7 * em:
            parent = open_lists[-1][1].items[-1]
            if parent.children is None:
                parent.children = ListBlock(mark.ordered, "")
                open_lists.append((inset, parent.children))
            else:
                open_lists.append((inset, parent.children))
        elif not open_lists or (len(open_lists) == 1 and open_lists[0][1].ordered != mark.ordered):
            open_lists = [(inset, ListBlock(mark.ordered, ""))]
            result.append(open_lists[0][1])
        open_lists[-1][1].items.append(ListItem(words))
    return result


def extend(run: list[Word], more: Sequence[PlacedWord]) -> None:
    """Add a line's words; a word divided by a hyphen at the line's end is made whole (in place)."""
    words: list[Word] = [(word.text, word.style) for word in more]
    if run and words:
        end, begin = run[-1][0], words[0][0]
        if len(end) > 1 and end.endswith("-") and end[-2].isalpha() and begin[0].islower():
            run[-1] = (end[:-1] + begin, run[-1][1])
            words = words[1:]
    run += words
