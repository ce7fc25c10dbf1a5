"""The demo: a script in the colours of its speakers, heard while it is made, with its turns on the waveform."""

from __future__ import annotations

from typing import Any

from multiway_core.app import frame

from multiway_tts.demo.events import connect
from multiway_tts.demo.layout import components
from multiway_tts.demo.session import Session
from multiway_tts.model import BUNDLED_MODEL, load_synthesizer

__all__ = ["Session", "build_demo"]

TITLE = "Multiway TTS"


def build_demo(model: str = BUNDLED_MODEL, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises ModelNotFoundError, CheckpointError."""
    session = Session(load_synthesizer(model, device, dtype))
    description = f"{model}, on this machine: nothing is sent anywhere. All sound bears an inaudible mark."
    with frame(TITLE, description) as blocks:
        connect(session, components(session))
    return blocks
