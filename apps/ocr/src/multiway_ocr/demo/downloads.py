"""What the demo makes of a document: files to download, and its markdown as HTML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.files import write_bytes

if TYPE_CHECKING:
    from multiway_document.result import Document


def write_download(folder: Path, source: Path, format: str, export: Any) -> str:
    """Write the document in ``format`` into ``folder`` under the source's name; the path as a string."""
    from multiway_document.export import EXTENSIONS

    file = folder / (source.stem + EXTENSIONS[format])
    write_bytes(file, export(format))
    return str(file)


def rendered_markdown(document: Document) -> str:
    """The document's markdown as safe HTML: no raw HTML, no pictures (nothing is fetched from anywhere)."""
    from markdown_it import MarkdownIt
    from multiway_document.export import export

    renderer = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")
    return renderer.render(export(document, "markdown").decode("utf-8"))
