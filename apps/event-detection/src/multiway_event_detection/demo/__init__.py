"""The demo: events at any microsecond, and the boxes that a detector sees in them."""

from __future__ import annotations

from typing import Any

from multiway_core.app import ModelOptions, frame

from multiway_event_detection.app import APP
from multiway_event_detection.demo.events import connect
from multiway_event_detection.demo.layout import components
from multiway_event_detection.demo.session import DemoDetector

__all__ = ["DemoDetector", "build_demo"]

TITLE = "Multiway Event Detection"
DESCRIPTION = (
    "Objects in the events of an event camera, at any microsecond. No event camera? Any video works: its events are "
    "simulated. Everything happens on this machine; nothing is sent anywhere."
)


def build_demo(model: str = APP.model, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises ModelNotFoundError, CheckpointError, ConfigError."""
    session = DemoDetector(ModelOptions(model, device, dtype))
    with frame(TITLE, DESCRIPTION) as blocks:
        connect(session, components(session.models))
    return blocks
