"""The micro-batch engine: slices of some milliseconds at once, states carried from slice to slice."""

from __future__ import annotations

import numpy as np
import torch

from multiway_event_vision.ssla_det.engines.engine import Engine
from multiway_event_vision.ssla_det.inputs import EventArrays, EventBatch, event_features
from multiway_event_vision.ssla_det.state_update import update_state


class MicroBatchEngine(Engine):
    """Every push is one slice: its events go through each level together. `native=False` keeps to PyTorch."""

    native: bool = True

    def _push(self, events: EventArrays) -> None:
        features = event_features(events, self.state.previous_times)
        batch = EventBatch(
            x_NC=torch.from_numpy(features).to(self.state.waiting[0].dtype),
            t_N=torch.from_numpy(events.t),
            stream_N=torch.zeros(len(events), dtype=torch.int64),
            pixel_N=torch.from_numpy(events.pixel),
            streams=1,
            height=self.height,
            width=self.width,
        ).to(self.state.depth_G.device)
        self.state, depth_N = update_state(
            self.model.config,
            self.weights,
            batch,
            self.state,
            in_place=True,
            fused=self.native,
        )
        self.work.updated += np.bincount(depth_N.cpu().numpy() - 1, minlength=len(self.work.updated))
