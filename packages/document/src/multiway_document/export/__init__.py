"""What a reading can be written as: one file a format, all of them from the same :class:`Document`.

data = export(document, "hocr", images=lambda index: picture)
path.with_suffix(EXTENSIONS["hocr"]).write_bytes(data)
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from multiway_core.errors import InputError

from multiway_document.export.page_images import PageImages
from multiway_document.result import Document


@dataclass(frozen=True)
class Exporter:
    """A format: how it is written, how its files are called, and what use it makes of page pictures."""

    name: str
    extension: str
    media_type: str
    uses_images: bool = False
    needs_images: bool = False
    module: str = ""  # where it is not called as the format

    def write(self, document: Document, images: PageImages | None) -> bytes:
        """The whole file. The module is imported here: some bring libraries that take longer than a page."""
        module = import_module(f"multiway_document.export.{self.module or self.name}")
        data: bytes = getattr(module, f"to_{self.name}")(document, images)
        return data


FORMATS: dict[str, Exporter] = {
    exporter.name: exporter
    for exporter in (
        Exporter("text", ".txt", "text/plain"),
        Exporter("json", ".json", "application/json"),
        Exporter("jsonl", ".jsonl", "application/x-ndjson", module="json"),
        Exporter("markdown", ".md", "text/markdown"),
        Exporter("hocr", ".hocr", "text/html", uses_images=True),
        Exporter("alto", ".xml", "application/xml", uses_images=True),
        Exporter("tsv", ".tsv", "text/tab-separated-values", uses_images=True),
        Exporter("pdf", ".pdf", "application/pdf", uses_images=True, needs_images=True),
        Exporter("html", ".html", "text/html", uses_images=True),
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
