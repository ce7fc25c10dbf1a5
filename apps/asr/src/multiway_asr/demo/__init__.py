"""The demo: a recording, a lane per speaker over its waveform, and the transcript, streamed."""

from __future__ import annotations

from typing import Any

from multiway_core.app import ModelOptions, frame

from multiway_asr.app import APP
from multiway_asr.demo.events import connect
from multiway_asr.demo.layout import components
from multiway_asr.demo.session import DemoSession
from multiway_asr.transcriber import Transcriber

DESCRIPTION = "Who said what and when. Everything happens on this machine; nothing is sent anywhere."


def build_demo(model: str = "", *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises StopRun when it cannot be."""
    session = DemoSession(Transcriber(ModelOptions(model, device, dtype)))
    with frame(APP.title, DESCRIPTION) as blocks:
        connect(session, components())
    return blocks
