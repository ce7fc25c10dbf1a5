"""The operation behind HTTP and MCP: a page or document in, its lines and markdown out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from multiway_core.app.serve.operation import InputFile, Operation, Service
from multiway_document.result import Document

from multiway_ocr.reader import Engine, Reader, ReadOptions, Task


def ocr(
    pipeline: Any,
    file: InputFile,
    task: Task = "ocr",
    engine: Engine | None = None,
    pages: str | None = None,
) -> Iterator[Any]:
    """Read the text of a picture or PDF: lines with boxes in pixels and confidences, or markdown.

    ``pages``: from 1, such as 1-3 or 2,5-7.
    """
    reader = Reader(ReadOptions(task=task, engine=engine, pages=pages or None), lambda: pipeline)
    return reader.stream(file)


SERVICE = Service(operations=(Operation("/v1/ocr", ocr, Document, schema="multiway.ocr/1"),))
