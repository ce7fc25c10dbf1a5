"""From one file to a ``Document``: pages one at a time, text layers used, the model loaded when needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from multiway_core.app import ModelLoader, ModelOptions
from multiway_core.errors import InputError

from multiway_ocr.app import APP

if TYPE_CHECKING:
    from multiway_document.pages import SourcePage
    from multiway_document.result import Document, Line, Page
    from PIL import Image

Task = Literal["ocr", "markdown"]
Engine = Literal["auto", "fast", "ppocr", "full"]
Format = Literal["text", "json", "jsonl", "markdown", "hocr", "alto", "tsv", "pdf", "html"]

TEXT_LAYER = "pdf-text-layer"  # what stands as the model of a document that needed none
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".heic", ".heif", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".pdf"}
)


@dataclass(frozen=True)
class ReadOptions(ModelOptions):
    """How to read; the same for all files of a run. Picklable: worker processes get it."""

    model: str = APP.model
    task: Task = "ocr"
    engine: Engine | None = None  # the model's best
    pages: str | None = None
    force_ocr: bool = False
    password: str | None = None  # of encrypted PDF files


class Reader:
    """Reads files with one pipeline, loaded at the first page that needs it."""

    def __init__(self, options: ReadOptions, pipeline: Callable[[], Any] | None = None) -> None:
        self.options = options
        self.pipeline = pipeline or ModelLoader(APP, options)

    def variant(self, **changes: Any) -> Reader:
        """A reader with another task, engine or choice of pages, and the same pipeline."""
        return Reader(replace(self.options, **changes), self.pipeline)

    def document(self, path: Path) -> Document:
        """Read all (chosen) pages of one file.

        Raises:
            InputError: the file cannot be read.
            StopRun: the model cannot be loaded.
        """
        from multiway_document.result import Document

        *_, document = self.stream(path)
        assert isinstance(document, Document)
        return document

    def stream(self, path: Path) -> Iterator[Line | Page | Document]:
        """As :meth:`document`, but yields lines as they are read, pages as they end, the document last."""
        from multiway_document.result import Document, Page

        pages: list[Page] = []
        model = TEXT_LAYER
        for source in self._open(path):
            page = self._text_layer_page(source)
            if page is not None:
                yield from page.lines
                yield page
                pages.append(page)
                continue
            model = self.options.model
            options = {"task": self.options.task, "engine": self.options.engine}
            for event in self.pipeline().stream(source.image, **options):
                if isinstance(event, Page):
                    event = self._finish(source, event)
                    pages.append(event)
                yield event
        yield Document(_shown(path), model, tuple(pages))

    def images(self, path: Path) -> Callable[[int], Image.Image]:
        """Page pictures for the exporters, asked for in page order: opened anew, one in memory at a time."""
        sources: Iterator[SourcePage] | None = None

        def image(index: int) -> Image.Image:
            nonlocal sources
            if sources is None:
                sources = self._open(path)
            for source in sources:
                if source.index == index:
                    return source.image
            raise InputError(f"{_shown(path)}: page {index + 1} is gone")

        return image

    def export(self, document: Document, path: Path, format: Format) -> bytes:
        """The document as a file of ``format``; ``path`` is where its page pictures come from."""
        from multiway_document.export import export
        from multiway_document.export.layered_pdf import add_text_layer
        from multiway_document.pages import sniff

        if format == "pdf" and not self.options.force_ocr and sniff(path) == "pdf":
            return add_text_layer(path, document, images=self.images(path), password=self.options.password)
        return export(document, format, images=self.images(path))

    def _open(self, path: Path) -> Iterator[SourcePage]:
        from multiway_document.pages import open_pages

        return open_pages(path, pages=self.options.pages, password=self.options.password)

    def _text_layer_page(self, source: SourcePage) -> Page | None:
        """The page out of its own text layer; None when a model has to read it."""
        from multiway_document.result import FROM_TEXT_LAYER, Page

        if source.text_lines is None or self.options.force_ocr:
            return None
        width, height = source.image.size
        page = Page(source.index, width, height, tuple(source.text_lines), flags=(FROM_TEXT_LAYER,))
        if self.options.task == "ocr":
            return page
        if self.options.engine == "full":  # the decoder was asked for by name
            return None
        from multiway_ocr.text_layer import markdown_of_text_layer

        markdown = markdown_of_text_layer(source.image, page.lines)
        return None if markdown is None else replace(page, markdown=markdown)

    def _finish(self, source: SourcePage, page: Page) -> Page:
        """The pipeline's page in its place in the document; exact lines of a text layer replace read ones."""
        from multiway_document.result import FROM_TEXT_LAYER

        if source.text_lines is not None and not self.options.force_ocr:
            flags = (FROM_TEXT_LAYER,)
            return replace(page, index=source.index, lines=tuple(source.text_lines), flags=flags)
        return replace(page, index=source.index)


def warnings(document: Document) -> list[str]:
    """What a user should know about a reading: pages that were cut off, went round in circles, or hold unread text."""
    found = []
    for page in document.pages:
        where = f"{document.source}: page {page.index + 1}"
        if page.looped:
            found.append(f"{where}: the reader repeated itself and was stopped")
        elif page.truncated:
            found.append(f"{where}: the text is cut off at the length limit")
        if "unknown_script" in page.flags:
            found.append(
                f"{where}: much of it was not read: handwriting, or a script other than Latin, Chinese and Japanese?"
            )
        elif "unread_text" in page.flags:
            found.append(f"{where}: something that looks like text was not read")
    return found


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", errors="replace")
