"""The demo: a page with its boxes, its text and its markdown, streaming while it is read."""

from __future__ import annotations

from typing import Any

from multiway_core.app import frame

from multiway_ocr.app import APP
from multiway_ocr.demo.downloads import rendered_markdown, write_download
from multiway_ocr.demo.events import connect
from multiway_ocr.demo.layout import components
from multiway_ocr.demo.session import DemoReader
from multiway_ocr.reader import ReadOptions

__all__ = ["DemoReader", "build_demo", "rendered_markdown", "write_download"]

TITLE = "Multiway OCR"
DESCRIPTION = (
    "Text, boxes and markdown of a page. Everything happens on this machine; nothing is sent anywhere."
)


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises StopRun when it cannot be."""
    session = DemoReader(ReadOptions(model=model, device=device, dtype=dtype))
    with frame(TITLE, DESCRIPTION) as blocks:
        connect(session, components(session.engines))
    return blocks
