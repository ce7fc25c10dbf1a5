"""What stands where on the demo's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiway_core.app import download_buttons, example_gallery, repository_examples, run_and_stop, viewer

from multiway_ocr.app import APP
from multiway_ocr.demo.view import view_value
from multiway_ocr.reader import SUFFIXES, Engine

if TYPE_CHECKING:
    from PIL import Image

_ENGINE_LABELS = {
    "auto": "Automatic",
    "fast": "Fast: one pass over the lines, for scans",
    "ppocr": "PP-OCR: for photographs",
    "full": "Full: autoregressive decoder",
}
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


@dataclass(frozen=True)
class Components:
    """The parts of the page that events read or change (Gradio's own types, which are loaded late)."""

    file: Any
    page: Any
    engine: Any
    task: Any
    read: Any
    stop: Any
    examples: list[Path]
    gallery: Any
    view: Any
    markdown: Any
    downloads: list[Any]


def components(engines: Sequence[Engine]) -> Components:
    """Put the components on the page that is being built, for a model with these engines."""
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
                [(_ENGINE_LABELS[name], name) for name in engines],
                value=engines[0],
                label="Engine",
                visible=len(engines) > 1,
                elem_id="ocr-engine",
            )
            # All other engines give lines and markdown in one go; the decoder writes either.
            task = gr.Radio(
                _TASKS,
                value="ocr" if engines[0] == "full" else "markdown",
                label="The decoder writes",
                visible=engines[0] == "full",
                elem_id="ocr-task",
            )
            read, stop = run_and_stop("Read", "ocr-read")
            examples = repository_examples(APP, SUFFIXES)
            gallery = None
            if examples:
                gallery = example_gallery(
                    [(_thumbnail(path), path.stem.replace("_", " ").replace("-", " ")) for path in examples],
                    "ocr-examples",
                    columns=2,
                    height=230,
                    show_label=True,
                )
        with gr.Column(scale=7, min_width=560):
            view = viewer(APP, view_value(), "ocr-view")
        with gr.Column(scale=3, min_width=300):
            markdown = gr.HTML(
                value="",
                html_template="<div class='heading'>Markdown</div>"
                "<div class='rendered prose' role='group' aria-label='Markdown' tabindex='0'>${value}</div>",
                css_template=_MARKDOWN_CSS,
                js_on_load=None,
                elem_id="ocr-markdown",
            )
    with gr.Row(elem_id="ocr-downloads"):
        gr.HTML("Download", css_template=_LABEL_CSS, apply_default_css=False, min_width=80)
        downloads = download_buttons({name: _FORMAT_LABELS[name] for name in FORMATS}, "ocr", min_width=90)
    return Components(file, page, engine, task, read, stop, examples, gallery, view, markdown, downloads)


def _thumbnail(path: Path) -> Image.Image:
    from multiway_document.pages import open_pages

    image = next(iter(open_pages(path, pages="1", dpi=50))).image
    image.thumbnail((300, 300))
    return image
