"""The demo: a chat, a text to be continued, and a text to be judged, with the model's thoughts token by token."""

from __future__ import annotations

from typing import Any

from multiway_core.app import ModelOptions, frame, load_pipeline

from multiway_lm.app import APP
from multiway_lm.demo.events import connect
from multiway_lm.demo.layout import components
from multiway_lm.demo.session import Session

__all__ = ["Session", "build_demo"]

TITLE = "Multiway LM"


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises ModelNotFoundError, CheckpointError."""
    session = Session(load_pipeline(APP, ModelOptions(model, device, dtype)))
    description = f"{model}, on this machine: nothing is sent anywhere."
    with frame(TITLE, description) as blocks:
        connect(session, components(session))
    return blocks
