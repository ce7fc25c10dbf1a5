"""The demo: a script editor with speaker colours, streamed audio, and the turns on the waveform."""

from __future__ import annotations

from typing import Any

from multiway_core.app import ModelOptions, frame, load_pipeline

from multiway_tts.app import APP
from multiway_tts.demo.events import connect
from multiway_tts.demo.layout import components
from multiway_tts.demo.session import Session

__all__ = ["Session", "build_demo"]


def build_demo(model: str = "", *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises ModelNotFoundError, CheckpointError."""
    session = Session(load_pipeline(APP, ModelOptions(model, device, dtype)))
    description = (
        f"{model or APP.model}, on this machine: nothing is sent anywhere. All sound bears an inaudible mark."
    )
    with frame(APP.title, description) as blocks:
        connect(session, components(session))
    return blocks
