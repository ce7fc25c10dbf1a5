"""A dense network beside SSLA-Det: it looks at all pixels of the last 100 ms whenever it is read."""

from __future__ import annotations

import time
from typing import Any

from multiway_core import hub, model_folder
from multiway_event_vision.baselines.dense_cnn import DenseCnn, DenseCnnConfig, forward_flops
from multiway_event_vision.baselines.dense_engine import DenseEngine
from multiway_event_vision.pipeline import read_out
from multiway_event_vision.result import Prediction
from multiway_event_vision.simulator.shapes import CLASS_NAMES
from multiway_event_vision.ssla_det.detections import DetectionConfig, detect

from multiway_event_detection.demo.view import prediction_value

MODEL = "shapes-dense-cnn"


def dense_model(names: tuple[str, ...]) -> DenseCnn | None:
    """The bundled dense network, if there is one and it knows the same classes (those of the shapes)."""
    if MODEL not in hub.bundled() or names != CLASS_NAMES:
        return None
    return model_folder.load(DenseCnn, DenseCnnConfig, hub.resolve(hub.BUNDLED_PREFIX + MODEL))


class DenseBaseline:
    """Follows a run: takes in the events of its read-outs, and is read when it is."""

    def __init__(self, model: DenseCnn, width: int, height: int, score: float) -> None:
        self._engine = DenseEngine(model, height, width)
        self._flops = forward_flops(model.config, height, width)
        self._config = DetectionConfig(score)
        self._events = self._reads = 0
        self._seconds = 0.0

    def read(self, read: Prediction, start: int) -> list[Any]:
        """What it sees at the time of `read`, as the viewer takes it."""
        started = time.thread_time()
        self._engine.push_events(read.events)
        found = detect(self._engine, self._config)
        self._seconds += time.thread_time() - started
        self._events += len(read.events)
        self._reads += 1
        return prediction_value(read_out(read.t, read.events, found), start)

    @property
    def title(self) -> str:
        """What it is and costs."""
        whole = f"{self._flops / 1e6:,.0f} MFLOP a read-out"
        if not self._events:
            return f"Dense CNN, {whole}"
        each = self._flops * self._reads / self._events / 1e6
        milliseconds = 1e3 * self._seconds / self._reads
        return f"Dense CNN, {whole}: {each:,.2f} an event, {milliseconds:.0f} ms a read-out"
