"""Plain text: one line a line, a form feed between pages."""

from __future__ import annotations

from multiway_document.export.markup import printable
from multiway_document.export.page_images import PageImages
from multiway_document.result import Document


def to_text(document: Document, images: PageImages | None = None) -> bytes:
    """The document as UTF-8 text, pages separated by a form feed. ``images`` is not used."""
    text = "\n\f".join("\n".join(printable(line.text) for line in page.lines) for page in document.pages)
    return (text + "\n").encode() if text else b""
