"""The shapes set: simulated recordings of moving discs, squares, triangles and crosses, made once and kept.

Scenes of training, validation and test have seeds of their own, so none is ever seen twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from multiway_event_vision.labels.labelled import LabelledRecording, load_recordings, save_recordings
from multiway_event_vision.simulator.shapes import ShapesConfig, shapes_recording

TRAINING: Final = ShapesConfig(width=80, height=80, duration_us=400_000, max_shapes=2)
"""As dense with objects as the other one, and square, so that batches can turn scenes."""
HELD_OUT: Final = ShapesConfig(width=128, height=96, duration_us=400_000)
FIRST_SEED: Final = {"train": 0, "validation": 1_000_000, "test": 2_000_000}


def shapes_set(
    split: str,
    count: int,
    *,
    config: ShapesConfig | None = None,
    label_every_us: int = 10_000,
    file: Path | None = None,
    on_made: Callable[[int], None] | None = None,
) -> list[LabelledRecording]:
    """`count` recordings of "train", "validation" or "test", read from `file` if it has them, else made and kept."""
    if file is not None and file.is_file():
        found = load_recordings(file)
        if len(found) >= count:
            return found[:count]
    config = config or (TRAINING if split == "train" else HELD_OUT)
    times = np.arange(label_every_us, config.duration_us + 1, label_every_us, dtype=np.int64)
    made = []
    for number in range(count):
        events, boxes = shapes_recording(FIRST_SEED[split] + number, config, label_every_us=label_every_us)
        made.append(LabelledRecording(events, boxes, times))
        if on_made is not None:
            on_made(number + 1)
    if file is not None:
        save_recordings(made, file)
    return made
