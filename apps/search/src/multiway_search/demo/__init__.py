"""The demo: a collection of notes, or the visitor's own index, asked by meaning, by words, and in several languages."""

from __future__ import annotations

from typing import Any

from multiway_core.app import frame

from multiway_search.app import APP
from multiway_search.demo.layout import components
from multiway_search.demo.session import Session

__all__ = ["Session", "build_demo"]


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded and the notes indexed. Raises ModelNotFoundError."""
    session = Session.of(model, device, dtype)
    with frame(APP.title, f"{model}, on this machine: nothing is sent anywhere.") as blocks:
        components(session)
    return blocks
