"""Pieces that several demos' pages are made of. Gradio's own types are imported when a page is built."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from multiway_core.app.registry import App
from multiway_core.errors import DataError, InputError


def viewer(app: App, value: Any, elem_id: str, *, name: str = "viewer", **options: Any) -> Any:
    """A ``gr.HTML`` of the files ``viewer/<name>.html``, ``.css`` and ``.js`` of the app's package."""
    import gradio as gr

    folder = importlib.resources.files(app.package) / "viewer"
    html, css, script = (
        (folder / f"{name}.{ending}").read_text(encoding="utf-8") for ending in ("html", "css", "js")
    )
    return gr.HTML(
        value=value,
        html_template=html,
        css_template=css,
        js_on_load=script,
        apply_default_css=False,
        elem_id=elem_id,
        **options,
    )


def html_view(value: str, css: str, elem_id: str) -> Any:
    """A ``gr.HTML`` that shows what it is given, in the app's own style."""
    import gradio as gr

    return gr.HTML(
        value=value,
        html_template="${value}",
        css_template=css,
        js_on_load=None,
        apply_default_css=False,
        elem_id=elem_id,
    )


def run_and_stop(label: str, elem_id: str) -> tuple[Any, Any]:
    """The button that starts the work, and beside it the one that stops it: ``<prefix>-stop``."""
    import gradio as gr

    with gr.Row():
        run = gr.Button(label, variant="primary", elem_id=elem_id)
        stop = gr.Button("Stop", elem_id=f"{elem_id.rsplit('-', 1)[0]}-stop", min_width=70, scale=0)
    return run, stop


def example_gallery(
    items: Sequence[tuple[Any, str]], elem_id: str, *, columns: int, height: int, show_label: bool = False
) -> Any:
    """(picture, caption) of examples, to be clicked."""
    import gradio as gr

    return gr.Gallery(
        list(items),
        label="Examples",
        show_label=show_label,
        columns=columns,
        height=height,
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id=elem_id,
    )


def download_buttons(labels: Mapping[Any, str], prefix: str, *, min_width: int) -> list[Any]:
    """A button a file format, pressed when there is something to download: ``<prefix>-get-<name>``."""
    import gradio as gr

    return [
        gr.DownloadButton(
            label, size="sm", interactive=False, min_width=min_width, elem_id=f"{prefix}-get-{name}"
        )
        for name, label in labels.items()
    ]


@contextmanager
def named_as_uploaded(path: Path) -> Iterator[None]:
    """Errors about an upload name the file as its owner knows it, not where this machine keeps it."""
    try:
        yield
    except (DataError, InputError) as error:
        raise type(error)(str(error).replace(str(path), path.name)) from error
