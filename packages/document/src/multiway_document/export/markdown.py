"""Markdown: what the model wrote for each page, or its lines made literal."""

from __future__ import annotations

import re

from multiway_document.export.markup import printable
from multiway_document.export.page_images import PageImages
from multiway_document.result import Document, Page

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$])")
_LIST_START = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
_LINE_START = re.compile(r"^([-+=])")


def to_markdown(document: Document, images: PageImages | None = None) -> bytes:
    """The pages' markdown, an empty line between pages. ``images`` is not used.

    A page that was read without markdown gives its lines as literal text, line breaks kept.
    """
    text = "\n\n".join(part for part in map(_page, document.pages) if part)
    return (text + "\n").encode() if text else b""


def _page(page: Page) -> str:
    if page.markdown is not None:
        return printable(page.markdown).strip("\n")
    # Two spaces at the end of a line break it.
    return "  \n".join(filter(None, (literal(line.text) for line in page.lines)))


def literal(text: str) -> str:
    """One line of text as markdown that shows exactly that text."""
    text = _SPECIAL.sub(r"\\\1", " ".join(printable(text).split()))
    return _LINE_START.sub(r"\\\1", _LIST_START.sub(r"\1\\\2", text))
