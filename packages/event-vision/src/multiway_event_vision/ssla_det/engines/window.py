"""The window engine: keeps the events, and computes a window from its beginning whenever it is read."""

from __future__ import annotations

import numpy as np

from multiway_event_vision.ssla_det.engines.engine import Engine
from multiway_event_vision.ssla_det.inputs import EventArrays, batch_windows
from multiway_event_vision.ssla_det.state_update import update_state


class WindowEngine(Engine):
    """Parallel over all events since the last `reset`; `SslaDet.forward` is the same with gradients and a batch."""

    def reset(self) -> None:
        super().reset()
        self._slices: list[EventArrays] = []

    def _push(self, events: EventArrays) -> None:
        self._slices.append(events)

    def _catch_up(self) -> None:
        self.state = self.model.initial_state(self.height, self.width)
        if not self._slices:
            return
        slices = self._slices
        window = EventArrays(
            np.concatenate([part.t for part in slices]),
            np.concatenate([part.pixel for part in slices]),
            np.concatenate([part.on for part in slices]),
        )
        self._slices = [window]
        batch = batch_windows(
            [window], height=self.height, width=self.width, dtype=self.state.waiting[0].dtype
        ).to(self.state.depth_G.device)
        self.state, depth_N = update_state(self.model.config, self.weights, batch, self.state)
        self.work.updated += np.bincount(depth_N.cpu().numpy() - 1, minlength=len(self.work.updated))
