"""Recordings of events as files: `open_events` reads any of the formats, `write_events` writes most of them."""

from multiway_event_vision.formats.reader import open_events
from multiway_event_vision.formats.recording import Recording
from multiway_event_vision.formats.writer import write_events, written_start

__all__ = ["Recording", "open_events", "write_events", "written_start"]
