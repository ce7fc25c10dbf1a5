"""JSON of schema ``multiway.ocr/1``, and JSON lines with one page a row."""

from __future__ import annotations

import json

from multiway_document.export.page_images import PageImages
from multiway_document.result import Document


def to_json(document: Document, images: PageImages | None = None) -> bytes:
    """The document as :meth:`Document.to_json` gives it. ``images`` is not used."""
    return _encode(json.dumps(document.to_json(), ensure_ascii=False, indent=2))


def to_jsonl(document: Document, images: PageImages | None = None) -> bytes:
    """One row a page: the document's ``schema``, ``source`` and ``model``, and its one page in ``pages``.

    Every row is a whole document for :meth:`Document.from_json`. ``images`` is not used.
    """
    data = document.to_json()
    rows = [json.dumps({**data, "pages": [page]}, ensure_ascii=False) for page in data["pages"]]
    return b"".join(map(_encode, rows))


def _encode(text: str) -> bytes:
    # A lone surrogate becomes \udcxx, which is its escape in JSON as well.
    return (text + "\n").encode("utf-8", "backslashreplace")
