"""The model that a run uses, loaded when the first picture needs it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from multiway_core.app import StopRun, pick_device, pick_dtype
from multiway_core.errors import MultiwayError

if TYPE_CHECKING:
    from multiway_vision_language.pipeline import GroundingPipeline

BUNDLED_MODEL = "bundled:grounding-small"
PROGRAM = "multiway-grounding"


class PipelineLoader:
    """The ``GroundingPipeline`` of one model, loaded by whoever asks first and kept."""

    def __init__(self, model: str = BUNDLED_MODEL, device: str = "auto", dtype: str = "auto") -> None:
        self.model = model
        self._device, self._dtype = device, dtype
        self._pipeline: GroundingPipeline | None = None
        self._lock = threading.Lock()  # the demo's visitors come in threads

    def __call__(self) -> GroundingPipeline:
        """The pipeline; raises StopRun when it cannot be loaded (then no picture can be read)."""
        from multiway_vision_language.pipeline import GroundingPipeline

        with self._lock:
            if self._pipeline is None:
                try:
                    self._pipeline = GroundingPipeline.from_pretrained(
                        self.model, device=pick_device(self._device), dtype=pick_dtype(self._dtype)
                    )
                except MultiwayError as error:
                    raise StopRun(str(error)) from error
        return self._pipeline
