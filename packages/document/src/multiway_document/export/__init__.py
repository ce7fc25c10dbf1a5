"""What a reading can be written as: one file a format, all of them from the same :class:`Document`.

data = export(document, "hocr", images=lambda index: picture)
path.with_suffix(EXTENSIONS["hocr"]).write_bytes(data)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from multiway_core.errors import InputError

from multiway_document.export.alto import to_alto
from multiway_document.export.hocr import to_hocr
from multiway_document.export.html import to_html
from multiway_document.export.json import to_json, to_jsonl
from multiway_document.export.markdown import to_markdown
from multiway_document.export.page_images import PageImages
from multiway_document.export.pdf import to_pdf
from multiway_document.export.text import to_text
from multiway_document.export.tsv import to_tsv
from multiway_document.result import Document


@dataclass(frozen=True)
class Exporter:
    """A format: how it is written, how its files are called, and what use it makes of page pictures."""

    name: str
    extension: str
    media_type: str
    write: Callable[[Document, PageImages | None], bytes]
    uses_images: bool = False
    needs_images: bool = False


FORMATS: dict[str, Exporter] = {
    exporter.name: exporter
    for exporter in (
        Exporter("text", ".txt", "text/plain", to_text),
        Exporter("json", ".json", "application/json", to_json),
        Exporter("jsonl", ".jsonl", "application/x-ndjson", to_jsonl),
        Exporter("markdown", ".md", "text/markdown", to_markdown),
        Exporter("hocr", ".hocr", "text/html", to_hocr, uses_images=True),
        Exporter("alto", ".xml", "application/xml", to_alto, uses_images=True),
        Exporter("tsv", ".tsv", "text/tab-separated-values", to_tsv, uses_images=True),
        Exporter("pdf", ".pdf", "application/pdf", to_pdf, uses_images=True, needs_images=True),
        Exporter("html", ".html", "text/html", to_html, uses_images=True),
    )
}
EXTENSIONS: dict[str, str] = {name: exporter.extension for name, exporter in FORMATS.items()}


def export(document: Document, format: str, *, images: PageImages | None = None) -> bytes:
    """The document in one of ``FORMATS``, ready to be written to a file.

    ``images`` gives the picture of a page by its ``Page.index``; PDF needs it, HTML shows it, and the formats
    with word boxes use it to find the gaps between words. Raises InputError: unknown format, or pictures are
    needed.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; one of: {', '.join(FORMATS)}")
    return FORMATS[format].write(document, images)


__all__ = ["EXTENSIONS", "FORMATS", "Exporter", "PageImages", "export"]
