"""Reset policies: how far back a stream's state reaches, without limit or about one window of training.

    continuous   one engine that never forgets
    window       one engine that forgets everything at the end of each window
    sliding      two engines that are reset alternately, half a window apart; the one with the longer memory is read

    auto         what suits the model: continuous, or sliding where its config names a `memory_us`

A network trained on windows of 100 ms has never seen an older state. "window" keeps to that, but has seen nothing just
after it forgot; "sliding" always remembers between half a window and a whole one, for twice the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from multiway_core.errors import InputError

from multiway_event_vision.events import Events
from multiway_event_vision.ssla_det.engines.engine import Array, Engine, Grid, Work
from multiway_event_vision.ssla_det.head import HeadOutputs
from multiway_event_vision.ssla_det.inputs import EventArrays, check_events, window_of

PolicyName = Literal["continuous", "window", "sliding"]
PolicyChoice = Literal["auto", PolicyName]
_ENGINES: dict[str, int] = {"continuous": 1, "window": 1, "sliding": 2}


class Policy:
    """Engines on one stream, pushed and read like one; `detect` takes it as it takes an engine.

    Windows are counted from the first event, or from the first time given to `advance`.
    """

    _origin: int | None
    _now: int | None
    _boundary: int
    """Boundary n makes engine n forget, modulo their number."""
    _work_before: Work

    def __init__(
        self, make_engine: Callable[[], Engine], name: PolicyName = "continuous", horizon_us: int = 100_000
    ) -> None:
        """`horizon_us`: a window in microseconds. Raises InputError: no such policy, or a window too short."""
        if name not in _ENGINES:
            raise InputError(f"no policy {name!r}; expected one of {', '.join(get_args(PolicyName))}")
        if horizon_us < 2:
            raise InputError(f"a window of {horizon_us} us; expected at least 2")
        self._engines = [make_engine() for _ in range(_ENGINES[name])]
        self._step = None if name == "continuous" else horizon_us // len(self._engines)
        self.model = self._engines[0].model
        self.height, self.width = self._engines[0].height, self._engines[0].width
        self._forget()

    def reset(self) -> None:
        """Forget the stream."""
        for engine in self._engines:
            engine.reset()
        self._forget()

    def push(self, t: Array, x: Array, y: Array, p: Array) -> None:
        """As `Engine.push`. Raises InputError, and has taken none then."""
        self._take(check_events(t, x, y, p, height=self.height, width=self.width))

    def push_events(self, events: Events) -> None:
        """:meth:`push` for events in memory. Raises InputError also for a sensor of another size."""
        if (events.height, events.width) != (self.height, self.width):
            raise InputError(
                f"events of a sensor of {events.width}x{events.height} pixels, expected {self.width}x{self.height}"
            )
        self._take(window_of(events))

    def advance(self, t: int) -> None:
        """Tell that it is `t` microseconds though no event came: windows end in silence too. Raises InputError."""
        if self._now is not None and t < self._now:
            raise InputError(f"time runs backwards, to {t} us behind {self._now} us")
        self._now = t
        if self._step is None:
            return
        if self._origin is None:
            self._origin = t
        boundary = (t - self._origin) // self._step
        count = len(self._engines)
        for number in range(max(self._boundary + 1, boundary - count + 1), boundary + 1):
            engine = self._engines[number % count]
            self._work_before.add(engine.work)
            engine.reset()
        self._boundary = boundary

    def read(self) -> Grid:
        """`Engine.read` of the engine that remembers furthest back."""
        return self._oldest.read()

    def predict(self) -> tuple[Grid, HeadOutputs]:
        """`Engine.predict` of the engine that remembers furthest back."""
        return self._oldest.predict()

    @property
    def work(self) -> Work:
        """What all engines did together, also before they forgot."""
        total = Work.none(self.model.config.num_levels)
        for work in (self._work_before, *(engine.work for engine in self._engines)):
            total.add(work)
        return total

    @property
    def _oldest(self) -> Engine:
        return self._engines[(self._boundary + 1) % len(self._engines)]

    def _forget(self) -> None:
        self._origin = self._now = None
        self._work_before = Work.none(self.model.config.num_levels)
        self._boundary = 0

    def _take(self, events: EventArrays) -> None:
        if len(events) == 0:
            return
        if self._now is not None and events.t[0] < self._now:
            raise InputError(f"events: time runs backwards, to {events.t[0]} us behind {self._now} us")
        while len(events):
            self.advance(int(events.t[0]))
            end = len(events)
            if self._step is not None and self._origin is not None:
                end = int(np.searchsorted(events.t, self._origin + (self._boundary + 1) * self._step))
            for engine in self._engines:
                engine.take(events[:end])
            self._now = int(events.t[end - 1])
            events = events[end:]
