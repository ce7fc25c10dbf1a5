"""The demo: files dropped or text pasted, asked, with the answers marked where they stand."""

from __future__ import annotations

from typing import Any

from multiway_core.app import ModelOptions, frame, load_pipeline

from multiway_question_answering.app import APP
from multiway_question_answering.demo.layout import components
from multiway_question_answering.demo.session import Session

__all__ = ["Session", "build_demo"]


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises ModelNotFoundError."""
    session = Session(load_pipeline(APP, ModelOptions(model, device, dtype)))
    description = (
        f"{model} finds answers in your texts, on this machine: nothing is sent anywhere. It may be wrong."
    )
    with frame(APP.title, description) as blocks:
        components(session)
    return blocks
