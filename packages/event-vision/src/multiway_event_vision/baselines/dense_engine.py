"""The dense network on one stream: keeps the events of its window and recomputes everything at each readout."""

from __future__ import annotations

import numpy as np
import torch
from multiway_core.errors import InputError

from multiway_event_vision.baselines.dense_cnn import DenseCnn
from multiway_event_vision.events import Events, concatenate
from multiway_event_vision.ssla_det.engines.engine import Grid
from multiway_event_vision.ssla_det.head import HeadOutputs
from multiway_event_vision.ssla_det.inputs import batch_windows, window_of


class DenseEngine:
    """Pushed and read as `ssla_det`'s engines are; `detect` takes it as it takes them. All cells are active.

    It puts the model into evaluation mode. A window ends with the last event pushed.
    """

    def __init__(self, model: DenseCnn, height: int, width: int) -> None:
        self.model, self.height, self.width = model.eval(), height, width
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._events = Events.empty(self.width, self.height)

    def push_events(self, events: Events) -> None:
        """Take events in. Raises InputError: a sensor of another size, or time runs backwards."""
        if (events.height, events.width) != (self.height, self.width):
            raise InputError(
                f"events of a sensor of {events.width}x{events.height} pixels, this engine is for"
                f" {self.width}x{self.height}"
            )
        if not len(events):
            return
        if len(self._events) and events.t[0] < self._events.t[-1]:
            raise InputError(
                f"events: time runs backwards, to {events.t[0]} us behind {self._events.t[-1]} us"
            )
        oldest = int(events.t[-1]) - self.model.config.window_us + 1
        joined = concatenate([self._events, events])
        self._events = joined[int(np.searchsorted(joined.t, oldest)) :]

    @torch.no_grad()
    def predict(self) -> tuple[Grid, HeadOutputs]:
        """The grid as of the last event pushed, and the head's predictions of all cells, shapes (1, ..., 1, cells)."""
        batch = batch_windows([window_of(self._events)], height=self.height, width=self.width)
        outputs = self.model(batch)
        _, width, rows, columns = outputs.grid_BDHW.shape
        end = int(self._events.t[-1]) if len(self._events) else 0
        grid = Grid(
            outputs.grid_BDHW.reshape(width, -1).t(),
            torch.ones(rows * columns, dtype=torch.bool),
            torch.full((rows * columns,), end),
            rows,
            columns,
        )
        head = outputs.head
        parts = (part.flatten(2)[:, :, None] for part in (head.classes, head.boxes, head.objectness))
        return grid, HeadOutputs(*parts)
