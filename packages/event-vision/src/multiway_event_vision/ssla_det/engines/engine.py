"""The base class of the three engines: push events, read at any time.

    engine = EventEngine(model, height=240, width=304)
    engine.push(t, x, y, p)
    grid = engine.read()

All three give the same grid at every read-out, whatever the slices in which events were pushed, as long as events of
one microsecond are pushed together (or in canonical order, see `inputs.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
from multiway_core.errors import InputError
from numpy.typing import NDArray
from torch import Tensor

from multiway_event_vision.events import Events
from multiway_event_vision.ssla_det.head import HeadOutputs
from multiway_event_vision.ssla_det.inputs import EventArrays, check_events
from multiway_event_vision.ssla_det.model import SslaDet
from multiway_event_vision.ssla_det.readout import peek_cells
from multiway_event_vision.ssla_det.state import StreamState

Array = NDArray[np.generic]


@dataclass
class Work:
    """What an engine did since it began, for the count of operations (`cost.py`)."""

    updated: NDArray[np.int64]
    """[level] events whose last level it is."""
    peeked: NDArray[np.int64]
    """[level] chains of peeks that began at this level."""
    predicted: int = 0
    """Cells that the head was run on."""

    @classmethod
    def none(cls, levels: int) -> Work:
        return cls(np.zeros(levels, np.int64), np.zeros(levels, np.int64))

    def add(self, other: Work) -> None:
        """Count what another did, too."""
        self.updated += other.updated
        self.peeked += other.peeked
        self.predicted += other.predicted


@dataclass(frozen=True)
class Grid:
    """The head's input at a read-out: G = rows · columns cells."""

    feature_GD: Tensor
    """Zeros where no event ever was."""
    active_G: Tensor
    """bool, cells that had an event."""
    time_G: Tensor
    """int64 microseconds, each cell's newest event."""
    rows: int
    columns: int


@dataclass
class Engine(ABC):
    """A detector on one stream of a sensor of height x width pixels, without gradients.

    It puts the model into evaluation mode and copies its layers' folded weights: make a new one after training on.
    """

    model: SslaDet
    height: int
    width: int
    state: StreamState = field(init=False)
    work: Work = field(init=False)

    def __post_init__(self) -> None:
        config = self.model.config
        if config.readout != "commit-peek":
            raise InputError(f'engines need readout "commit-peek"; this model has "{config.readout}"')
        if self.height < 1 or self.width < 1:
            raise InputError(f"a sensor needs at least 1x1 pixels, not {self.width}x{self.height}")
        like = self.model.head.classes.weight
        if like.dtype not in (torch.float32, torch.float64):
            raise InputError(f"engines run in float32 or float64; this model is in {like.dtype}")
        self.model.eval()
        self.weights = [[layer.frozen() for layer in level] for level in self.model.weights()]
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self.state = self.model.initial_state(self.height, self.width)
        self._grid_GD = torch.zeros_like(self.state.waiting[-1])
        self.work = Work.none(self.model.config.num_levels)
        self._last = np.iinfo(np.int64).min

    def adopt(self, state: StreamState) -> None:
        """Go on from a copy of another engine's state (the window engine cannot: it begins at its first event)."""
        self.reset()
        self.state = state.copy()
        self.state.fresh_G.copy_(self.state.depth_G)  # nothing was read here yet

    def push(self, t: Array, x: Array, y: Array, p: Array) -> None:
        """Take events in; see `check_events` for what they must be. Raises InputError, and has taken none then."""
        self.take(check_events(t, x, y, p, height=self.height, width=self.width))

    def take(self, events: EventArrays) -> None:
        """:meth:`push` for events that `check_events` has seen. Raises InputError: they lie before the last ones."""
        if len(events) == 0:
            return
        if events.t[0] < self._last:
            raise InputError(f"events: time runs backwards, to {events.t[0]} us behind {self._last} us")
        self._last = int(events.t[-1])
        with torch.no_grad():
            self._push(events)

    def push_events(self, events: Events) -> None:
        """:meth:`push` for events in memory. Raises InputError also for a sensor of another size."""
        if (events.height, events.width) != (self.height, self.width):
            raise InputError(
                f"events of a sensor of {events.width}x{events.height} pixels, this engine is for"
                f" {self.width}x{self.height}"
            )
        self.push(events.t, events.x, events.y, events.p)

    def read(self) -> Grid:
        """The grid as of the last event pushed. Only cells that may have changed since the last time are computed."""
        with torch.no_grad():
            self._catch_up()
            config, state = self.model.config, self.state
            stale_G = self.model.stale_cells(state)
            arrived = (stale_G & (state.depth_G == config.num_levels)).nonzero().squeeze(1)
            self._grid_GD[arrived] = state.waiting[-1][arrived]
            cell_M, x_MD = peek_cells(config, self.weights, state, stale_G)
            self._grid_GD[cell_M] = x_MD
            levels = np.bincount(state.depth_G[cell_M].cpu().numpy(), minlength=config.num_levels)
            self.work.peeked += levels
            state.fresh_G.zero_()
        rows, columns = self.model.config.frame(self.model.config.num_levels - 1, self.height, self.width)
        return Grid(self._grid_GD.clone(), self.state.depth_G > 0, self.state.time_G.clone(), rows, columns)

    def predict(self) -> tuple[Grid, HeadOutputs]:
        """The grid, and the head's predictions of its active cells alone, in their order."""
        grid = self.read()
        with torch.no_grad():
            outputs = self.model.head.at_cells(grid.feature_GD[grid.active_G])
        self.work.predicted += int(grid.active_G.sum())
        return grid, outputs

    @abstractmethod
    def _push(self, events: EventArrays) -> None: ...

    def _catch_up(self) -> None:  # noqa: B027 (only one of the three is ever behind)
        """Bring `state` up to the last event."""
