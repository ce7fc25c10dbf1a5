"""Pages of uploads, read by one pipeline for all visitors."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import named_as_uploaded
from multiway_core.errors import InputError

from multiway_ocr.demo.view import data_uri, summary_of, view_value
from multiway_ocr.reader import Engine, Reader, ReadOptions, Task

if TYPE_CHECKING:
    from multiway_document.result import Document
    from PIL import Image

MAX_PIXELS = 20_000_000  # A4 at 450 dpi
_SECONDS_BETWEEN_UPDATES = 0.15


class DemoReader:
    """Reads single pages with one pipeline for all visitors, and makes the values of the viewer."""

    def __init__(self, options: ReadOptions) -> None:
        self._base = Reader(options)
        self.engines: tuple[Engine, ...] = self._base.pipeline().engines

    def reader(self, task: Task, engine: Engine, number: int) -> Reader:
        """A reader of page ``number`` (from 1) that shares the pipeline."""
        return self._base.variant(task=task, engine=engine, pages=str(number))

    def document(self, path: Path, task: Task, engine: Engine, number: int) -> Document:
        """One page of an upload, read without streaming."""
        with named_as_uploaded(path):
            self._image(path, number)  # refuses pages that are too large
            document = self.reader(task, engine, number).document(path)
        return replace(document, source=path.name)

    def preview(self, path: Path, number: int) -> tuple[int, dict[str, Any]]:
        """How many pages the file has, and the viewer's value for one of them, not yet read."""
        from multiway_document.pages import count_pages

        with named_as_uploaded(path):
            count = count_pages(path)
            image = self._image(path, number)
        summary = f"Page {number} of {count}" if count > 1 else ""
        return count, view_value(image, summary=summary, note="Not read yet: press Read.")

    def read(
        self, path: Path, task: Task, engine: Engine, number: int
    ) -> Iterator[tuple[dict[str, Any], Document | None, Any]]:
        """Viewer values while lines arrive; the last one comes with the document and its exporter."""
        from multiway_document.result import Document, Line, Page

        with named_as_uploaded(path):
            image = self._image(path, number)
        picture = data_uri(image)
        reader = self.reader(task, engine, number)
        lines: list[Line] = []
        started = updated = time.monotonic()
        yield view_value(image, picture, reading=True, summary="Reading ..."), None, None
        page: Page | None = None
        for event in reader.stream(path):
            if isinstance(event, Line):
                lines.append(event)
                if time.monotonic() - updated >= _SECONDS_BETWEEN_UPDATES:
                    updated = time.monotonic()
                    summary = f"{len(lines)} lines ..."
                    yield view_value(image, picture, lines, reading=True, summary=summary), None, None
            elif isinstance(event, Page):
                page = event
            elif isinstance(event, Document) and page is not None:
                document = replace(event, source=path.name)
                value = view_value(
                    image,
                    picture,
                    page.lines,
                    summary=summary_of(document, page, time.monotonic() - started),
                    note="No text was found on this page.",
                )
                yield value, document, functools.partial(reader.export, document, path)

    def _image(self, path: Path, number: int) -> Image.Image:
        from multiway_document.pages import open_pages

        for source in open_pages(path, pages=str(number)):
            width, height = source.image.size
            if width * height > MAX_PIXELS:
                raise InputError(
                    f"the page has {width} x {height} pixels; the demo takes {MAX_PIXELS // 10**6} million"
                )
            return source.image
        raise InputError(f"there is no page {number}")
