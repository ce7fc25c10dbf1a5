"""The demo: events at any microsecond, and the boxes that a detector sees in them."""

from __future__ import annotations

from typing import Any

from multiway_core.app import frame

from multiway_event_detection.demo.events import connect
from multiway_event_detection.demo.layout import components
from multiway_event_detection.demo.session import DemoDetector
from multiway_event_detection.options import BUNDLED_MODEL

__all__ = ["DemoDetector", "build_demo"]

TITLE = "Multiway Event Detection"
DESCRIPTION = (
    "Objects in the events of an event camera, at any microsecond. No event camera? Any video works: its events are "
    "simulated. Everything happens on this machine; nothing is sent anywhere."
)


def build_demo(model: str = BUNDLED_MODEL) -> Any:
    """The demo as Gradio Blocks, with the model loaded. Raises ModelNotFoundError, CheckpointError, ConfigError."""
    session = DemoDetector(model)
    with frame(TITLE, DESCRIPTION) as blocks:
        connect(session, components(session.models))
    return blocks
