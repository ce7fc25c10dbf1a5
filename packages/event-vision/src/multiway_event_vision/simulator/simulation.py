"""Pictures in, events out: a simulated recording that can be read like a real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from multiway_core.errors import InputError

from multiway_event_vision.events import Events, concatenate
from multiway_event_vision.formats.recording import CHUNK_EVENTS
from multiway_event_vision.simulator.frames import FrameSource
from multiway_event_vision.simulator.sensor import Sensor, SensorConfig


@dataclass(frozen=True)
class Simulation:
    """What a sensor sends while it is shown `source`; an `EventStream`, the same events at each reading."""

    source: FrameSource
    config: SensorConfig = field(default_factory=SensorConfig)
    seed: int = 0

    @property
    def width(self) -> int:
        """Pixels."""
        return self.source.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.source.height

    def chunks(self, chunk_events: int = CHUNK_EVENTS) -> Iterator[Events]:
        """Yield the events frame by frame, between 1 and `chunk_events` at once. Raises DataError from the source."""
        if chunk_events < 1:
            raise InputError(f"chunks of {chunk_events} events; expected 1 or more")
        sensor = Sensor(self.width, self.height, self.config, seed=self.seed)
        for frame_HW, t in self.source.frames():
            events = sensor.show(frame_HW, t)
            for low in range(0, len(events), chunk_events):
                yield events[low : low + chunk_events]

    def read(self) -> Events:
        """All events in memory."""
        parts = list(self.chunks())
        return concatenate(parts) if parts else Events.empty(self.width, self.height)
