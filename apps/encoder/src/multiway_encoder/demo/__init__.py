"""The demo: texts as a picture in which the near are alike, and the relations of tokens in one model or two."""

from __future__ import annotations

from typing import Any

from multiway_core.app import frame

from multiway_encoder.app import APP
from multiway_encoder.demo.layout import components
from multiway_encoder.demo.session import Session

__all__ = ["Session", "build_demo"]


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises ModelNotFoundError, CheckpointError."""
    session = Session.of(model, device, dtype)
    with frame(APP.title, f"{model}, on this machine: nothing is sent anywhere.") as blocks:
        components(session)
    return blocks
