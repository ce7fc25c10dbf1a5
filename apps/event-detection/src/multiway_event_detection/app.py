"""What this app tells the umbrella about itself."""

from __future__ import annotations

from multiway_core.app import App

APP = App(
    name="event-detection",
    title="Multiway Event Detection",
    description="Recordings of event cameras: facts, conversion, pictures and videos, simulation.",
    cli="multiway_event_detection.cli:cli",
)
