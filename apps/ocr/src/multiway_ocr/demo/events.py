"""What happens on the demo's page: a file is opened, a page turned, read, and offered for download."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multiway_core.app import messages
from multiway_core.errors import InputError

from multiway_ocr.demo.downloads import rendered_markdown, write_download
from multiway_ocr.demo.layout import Components
from multiway_ocr.demo.session import DemoReader
from multiway_ocr.demo.view import view_value
from multiway_ocr.reader import Engine, Task, warnings


def connect(session: DemoReader, parts: Components) -> None:
    """Give the components of the page that is being built their events."""
    import gradio as gr
    from multiway_document.export import FORMATS

    outputs = [parts.view, parts.markdown, *parts.downloads]
    cleared = [gr.update(value=None, interactive=False)] * len(parts.downloads)

    @messages
    def opened(path: str | None) -> list[Any]:
        if path is None:
            return [gr.update(visible=False), view_value(), "", *cleared]
        count, value = session.preview(Path(path), 1)
        return [gr.update(maximum=max(count, 2), value=1, visible=count > 1), value, "", *cleared]

    @messages
    def turned(path: str | None, number: float) -> list[Any]:
        if path is None:
            return [view_value(), "", *cleared]
        return [session.preview(Path(path), int(number))[1], "", *cleared]

    @messages
    def run(path: str | None, task: Task, engine: Engine, number: float) -> Iterator[list[Any]]:
        if path is None:
            raise InputError("choose a picture or a PDF first")
        value = view_value()
        try:
            for value, document, export in session.read(Path(path), task, engine, int(number)):
                if document is None:
                    yield [value, "", *cleared]
                    continue
                for warning in warnings(document):
                    gr.Warning(html.escape(warning))
                with tempfile.TemporaryDirectory(prefix="multiway-ocr-") as folder:
                    files = [write_download(Path(folder), Path(path), name, export) for name in FORMATS]
                    buttons = [gr.update(value=file, interactive=True) for file in files]
                    yield [value, rendered_markdown(document), *buttons]  # Gradio copies the files meanwhile
        except Exception:
            yield [{**value, "reading": False, "summary": "", "note": "Reading failed."}, "", *cleared]
            raise

    @messages
    def as_json(path: str | None, task: Task, engine: Engine, number: float) -> dict[str, Any]:
        if path is None:
            raise InputError("choose a picture or a PDF first")
        return session.document(Path(path), task, engine, int(number)).to_json()

    parts.file.change(
        opened, parts.file, [parts.page, *outputs], api_visibility="private", show_progress="hidden"
    )
    parts.page.release(
        turned, [parts.file, parts.page], outputs, api_visibility="private", show_progress="hidden"
    )
    reading = parts.read.click(
        run,
        [parts.file, parts.task, parts.engine, parts.page],
        outputs,
        api_visibility="private",
        show_progress="minimal",
        concurrency_id="model",
    )
    parts.engine.change(
        lambda chosen: gr.update(value="ocr" if chosen == "full" else "markdown", visible=chosen == "full"),
        parts.engine,
        parts.task,
        api_visibility="private",
        show_progress="hidden",
    )
    parts.stop.click(None, cancels=[reading], api_visibility="private")
    if parts.examples:

        def chosen(event: Any) -> str:
            return str(parts.examples[event.index])

        chosen.__annotations__["event"] = gr.SelectData  # Gradio passes the event by this annotation
        parts.gallery.select(chosen, None, parts.file, api_visibility="private", show_progress="hidden")
    # The same reading for programs (gradio_client): one call, JSON of schema multiway.ocr/1.
    gr.Button(visible=False).click(
        as_json,
        [parts.file, parts.task, parts.engine, parts.page],
        gr.JSON(visible=False),
        api_name="read",
        concurrency_id="model",
    )
