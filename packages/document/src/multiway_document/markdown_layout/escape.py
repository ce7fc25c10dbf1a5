"""Escapes recognised words so that markdown renders them literally."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from multiway_document.rendering.markdown_tree import (
    Block,
    CodeBlock,
    Heading,
    ListBlock,
    ListItem,
    Paragraph,
    Quote,
    Table,
    Word,
)

_ALWAYS = re.compile(r"[\\`*]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?])|~(?=~)|&(?=#?\w+;)|\](?=[(:\[])")
_AT_START = re.compile(r"^(?:[#>+=|-]|~{3})")
_NUMBER_AT_START = re.compile(r"^(\d{1,9})([.)])$")


def escape(block: Block) -> Block:
    """The block with a backslash before every character that markdown would take for markup."""
    match block:
        case Heading():
            words = _run(block.words)
            if re.fullmatch(r"#+", words[-1][0]):  # it would close the heading
                words[-1] = ("\\" + words[-1][0], words[-1][1])
            return Heading(block.level, words)
        case Paragraph():
            return Paragraph(_run(block.words))
        case Quote():
            return Quote(_run(block.words))
        case ListBlock():
            return ListBlock(block.ordered, block.marker, [_item(item) for item in block.items])
        case CodeBlock():
            return CodeBlock([row.replace("```", "'''") for row in block.rows])
        case Table():
            cell_rows = [[_text(cell).replace("|", "\\|") for cell in row] for row in block.rows]
            return replace(block, rows=cell_rows)
        case _:
            return block


def _item(item: ListItem) -> ListItem:
    children = None if item.children is None else cast(ListBlock, escape(item.children))
    return ListItem(_run(item.words), children)


def _run(words: Sequence[Word]) -> list[Word]:
    result: list[Word] = []
    for i, (text, style) in enumerate(words):
        if style == "code":
            result.append((text.replace("`", "'"), style))
            continue
        text = _text(text)
        if i == 0 and style == "regular":
            text = _NUMBER_AT_START.sub(r"\1\\\2", _AT_START.sub(lambda found: "\\" + found[0], text))
        result.append((text, style))
    return result


def _text(text: str) -> str:
    return _ALWAYS.sub(lambda found: "\\" + found[0], text)
