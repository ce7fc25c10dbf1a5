"""The full engine of a model that reads line by line: the decoder reads every line, the CTC line reader verifies it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from multiway_document.fast_engine import FastEngine
from multiway_document.kosmos2_5.line_writer import LineWriter
from multiway_document.line_reading import LineReading


class CheckedEngine(FastEngine):
    """As the fast engine, with :class:`LineWriter` in the place of the line reader alone.

    A small model cannot write a whole page behind 64 image embeddings, as the published one does behind 2,048; it sees
    one line at a time, which is what it was trained on. Lines of which the decoder and the line reader read different
    texts carry the flag ``disputed``.
    """

    def __init__(self, writer: LineWriter, *, mixed_precision: bool = False) -> None:
        super().__init__(self._written)
        self.writer = writer
        self.mixed_precision = mixed_precision

    def _written(self, crops: Sequence[np.ndarray]) -> list[LineReading]:
        device = self.writer.model.vision.patch_projection.weight.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
            return self.writer(crops)
