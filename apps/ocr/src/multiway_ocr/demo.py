"""The demo: a page with its boxes, its text and its markdown, streaming while it is read."""

from __future__ import annotations

import base64
import functools
import html
import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import frame, messages
from multiway_core.errors import InputError
from multiway_core.files import write_bytes

from multiway_ocr.reader import (
    BUNDLED_MODEL,
    SUFFIXES,
    Engine,
    Reader,
    ReadOptions,
    Task,
    warnings,
)

if TYPE_CHECKING:
    from multiway_document.result import Document, Line, Page
    from PIL import Image

TITLE = "Multiway OCR"
DESCRIPTION = (
    "Text, boxes and markdown of a page. Everything happens on this machine; nothing is sent anywhere."
)
MAX_PIXELS = 20_000_000  # A4 at 450 dpi
_SHOWN_SIDE = 1800  # pixels of the picture that the browser gets
_SECONDS_BETWEEN_UPDATES = 0.15
_ENGINE_LABELS = {"fast": "Fast: one pass over the lines", "full": "Full: autoregressive decoder"}
_TASKS = [("Lines with boxes", "ocr"), ("Markdown", "markdown")]
_FORMAT_LABELS = {
    "text": "Text",
    "json": "JSON",
    "jsonl": "JSON lines",
    "markdown": "Markdown",
    "hocr": "hOCR",
    "alto": "ALTO",
    "tsv": "TSV",
    "pdf": "Searchable PDF",
    "html": "Web page",
}
_LABEL_CSS = "font-size: 14px; line-height: 28px; color: var(--body-text-color-subdued);"
_MARKDOWN_CSS = """
.rendered {
  height: max(460px, calc(100vh - 250px)); overflow: auto; border: 1px solid var(--border-color-primary);
  border-radius: 8px; padding: 10px 16px; background: var(--background-fill-primary); scrollbar-width: thin;
  font-size: 14px; color: var(--body-text-color);
}
.heading { display: flex; align-items: center; min-height: 30px; margin-bottom: 8px; font-size: 14px;
  color: var(--body-text-color-subdued); }
"""


def build_demo(model: str = BUNDLED_MODEL, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises StopRun when it cannot be."""
    session = DemoReader(ReadOptions(model=model, device=device, dtype=dtype))
    with frame(TITLE, DESCRIPTION) as blocks:
        _fill(session)
    return blocks


def _fill(session: DemoReader) -> None:
    import gradio as gr
    from multiway_document.export import FORMATS

    with gr.Row(equal_height=False):
        with gr.Column(scale=0, min_width=280):
            file = gr.File(
                label="Picture or PDF",
                file_types=sorted(SUFFIXES),
                type="filepath",
                height=160,
                elem_id="ocr-file",
            )
            page = gr.Slider(1, 2, value=1, step=1, label="Page", visible=False, elem_id="ocr-page")
            engine = gr.Radio(
                [(_ENGINE_LABELS[name], name) for name in session.engines],
                value=session.engines[0],
                label="Engine",
                visible=len(session.engines) > 1,
                elem_id="ocr-engine",
            )
            # The fast engine gives lines and markdown in one go; the decoder writes either.
            task = gr.Radio(
                _TASKS,
                value="markdown" if session.engines[0] == "fast" else "ocr",
                label="The decoder writes",
                visible=session.engines[0] == "full",
                elem_id="ocr-task",
            )
            with gr.Row():
                read = gr.Button("Read", variant="primary", elem_id="ocr-read")
                stop = gr.Button("Stop", elem_id="ocr-stop", min_width=70, scale=0)
            examples = example_files()
            if examples:
                gallery = gr.Gallery(
                    [(_thumbnail(path), path.stem.replace("_", " ").replace("-", " ")) for path in examples],
                    label="Examples",
                    columns=2,
                    height=230,
                    object_fit="cover",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="ocr-examples",
                )
        with gr.Column(scale=7, min_width=560):
            view = gr.HTML(
                value=_view(),
                html_template=_asset("viewer.html"),
                css_template=_asset("viewer.css"),
                js_on_load=_asset("viewer.js"),
                apply_default_css=False,
                elem_id="ocr-view",
            )
        with gr.Column(scale=3, min_width=300):
            markdown = gr.HTML(
                value="",
                html_template="<div class='heading'>Markdown</div><div class='rendered prose'>${value}</div>",
                css_template=_MARKDOWN_CSS,
                js_on_load=None,
                elem_id="ocr-markdown",
            )
    with gr.Row(elem_id="ocr-downloads"):
        gr.HTML("Download", css_template=_LABEL_CSS, apply_default_css=False, min_width=80)
        downloads = [
            gr.DownloadButton(
                _FORMAT_LABELS[name], size="sm", interactive=False, min_width=90, elem_id=f"ocr-get-{name}"
            )
            for name in FORMATS
        ]

    outputs = [view, markdown, *downloads]
    cleared = [gr.update(value=None, interactive=False)] * len(downloads)

    @messages
    def opened(path: str | None) -> list[Any]:
        if path is None:
            return [gr.update(visible=False), _view(), "", *cleared]
        count, value = session.preview(Path(path), 1)
        return [gr.update(maximum=max(count, 2), value=1, visible=count > 1), value, "", *cleared]

    @messages
    def turned(path: str | None, number: float) -> list[Any]:
        if path is None:
            return [_view(), "", *cleared]
        return [session.preview(Path(path), int(number))[1], "", *cleared]

    @messages
    def run(path: str | None, task: Task, engine: Engine, number: float) -> Iterator[list[Any]]:
        if path is None:
            raise InputError("choose a picture or a PDF first")
        value = _view()
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

    file.change(opened, file, [page, *outputs], api_visibility="private", show_progress="hidden")
    page.release(turned, [file, page], outputs, api_visibility="private", show_progress="hidden")
    reading = read.click(
        run, [file, task, engine, page], outputs, api_visibility="private", show_progress="minimal",
        concurrency_id="model",
    )  # fmt: skip
    engine.change(
        lambda chosen: gr.update(value="markdown" if chosen == "fast" else "ocr", visible=chosen == "full"),
        engine,
        task,
        api_visibility="private",
        show_progress="hidden",
    )
    stop.click(None, cancels=[reading], api_visibility="private")
    if examples:

        def chosen(event: Any) -> str:
            return str(examples[event.index])

        chosen.__annotations__["event"] = gr.SelectData  # Gradio passes the event by this annotation
        gallery.select(chosen, None, file, api_visibility="private", show_progress="hidden")
    # The same reading for programs (gradio_client): one call, JSON of schema multiway.ocr/1.
    gr.Button(visible=False).click(
        as_json, [file, task, engine, page], gr.JSON(visible=False), api_name="read", concurrency_id="model"
    )


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
        with _without_folder(path):
            self._image(path, number)  # refuses pages that are too large
            document = self.reader(task, engine, number).document(path)
        return replace(document, source=path.name)

    def preview(self, path: Path, number: int) -> tuple[int, dict[str, Any]]:
        """How many pages the file has, and the viewer's value for one of them, not yet read."""
        from multiway_document.pages import count_pages

        with _without_folder(path):
            count = count_pages(path)
            image = self._image(path, number)
        summary = f"Page {number} of {count}" if count > 1 else ""
        return count, _view(image, summary=summary, note="Not read yet: press Read.")

    def read(
        self, path: Path, task: Task, engine: Engine, number: int
    ) -> Iterator[tuple[dict[str, Any], Document | None, Any]]:
        """Viewer values while lines arrive; the last one comes with the document and its exporter."""
        from multiway_document.result import Document, Line, Page

        with _without_folder(path):
            image = self._image(path, number)
        picture = _data_uri(image)
        reader = self.reader(task, engine, number)
        lines: list[Line] = []
        started = updated = time.monotonic()
        yield _view(image, picture, reading=True, summary="Reading ..."), None, None
        page: Page | None = None
        for event in reader.stream(path):
            if isinstance(event, Line):
                lines.append(event)
                if time.monotonic() - updated >= _SECONDS_BETWEEN_UPDATES:
                    updated = time.monotonic()
                    summary = f"{len(lines)} lines ..."
                    yield _view(image, picture, lines, reading=True, summary=summary), None, None
            elif isinstance(event, Page):
                page = event
            elif isinstance(event, Document) and page is not None:
                document = replace(event, source=path.name)
                value = _view(
                    image,
                    picture,
                    page.lines,
                    summary=_summary(document, page, time.monotonic() - started),
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


@contextmanager
def _without_folder(path: Path) -> Iterator[None]:
    """Errors about an upload name the file as its owner knows it, not where this machine keeps it."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(path), path.name)) from error


def example_files() -> list[Path]:
    """The pictures and PDF files of the repository's ``examples`` folder, copied to where Gradio may serve them from.

    Empty when the app is installed without the repository.
    """
    found = [
        path
        for parent in Path(__file__).resolve().parents[4:5]
        for path in sorted((parent / "examples").glob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not found:
        return []
    folder = Path(tempfile.gettempdir()) / "multiway-ocr-examples"
    folder.mkdir(exist_ok=True)
    copies = []
    for path in found:
        copy = folder / path.name
        shutil.copyfile(path, copy)
        copies.append(copy)
    return copies


def _thumbnail(path: Path) -> Image.Image:
    from multiway_document.pages import open_pages

    image = next(iter(open_pages(path, pages="1", dpi=50))).image
    image.thumbnail((300, 300))
    return image


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


def _view(
    image: Image.Image | None = None,
    picture: str | None = None,
    lines: Any = (),
    *,
    reading: bool = False,
    summary: str = "",
    note: str = "",
) -> dict[str, Any]:
    """The value of the viewer component (viewer/viewer.js draws it)."""
    if image is None:
        return {
            "image": None,
            "width": 1,
            "height": 1,
            "lines": [],
            "reading": False,
            "summary": "",
            "note": "",
        }
    return {
        "image": picture or _data_uri(image),
        "width": image.width,
        "height": image.height,
        "lines": [
            {
                "text": line.text,
                "box": [round(value, 1) for value in line.box],
                "confidence": round(line.confidence, 3),
                "flags": list(line.flags),
            }
            for line in lines
        ],
        "reading": reading,
        "summary": summary,
        "note": note,
    }


def _summary(document: Document, page: Page, seconds: float) -> str:
    count = len(page.lines)
    parts = [f"{count} line{'' if count == 1 else 's'}"]
    if page.lines:
        parts.append(f"mean confidence {100 * sum(line.confidence for line in page.lines) / count:.0f} %")
    parts += [f"{seconds:.1f} s", document.model]
    return " · ".join(parts)


def _data_uri(image: Image.Image) -> str:
    """The picture, reduced for the screen, inside a data URI: no file of the server is ever named."""
    shown = image.convert("RGB")
    shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _asset(name: str) -> str:
    return (resources.files("multiway_ocr") / "viewer" / name).read_text(encoding="utf-8")
