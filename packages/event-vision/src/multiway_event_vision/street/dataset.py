"""Recordings of the people-and-vehicles set from videos and a teacher's boxes.

For every `BOXES/NAME.json` (COCO: images with their time `t` in microseconds, annotations with `bbox` in pixels of the
video and `score`; categories person and vehicle) the video `VIDEOS/NAME.*` becomes `OUT/SPLIT/NAME-WIDTH.npz`, the
events, and `OUT/SPLIT/NAME-WIDTH_bbox.npy`, the labels, as Prophesee's tools read them. Widths and split are those of
`street/videos.py`; a video that is not named there is "training", 304 pixels wide.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from multiway_core.errors import DataError
from numpy.typing import NDArray

from multiway_event_vision.events import Events
from multiway_event_vision.formats import open_events, write_events
from multiway_event_vision.labels import read_coco_boxes, read_prophesee_boxes, write_prophesee_boxes
from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.simulator import SensorConfig
from multiway_event_vision.street.recording import CLASS_NAMES, LabelConfig, RecordingConfig, street_recording
from multiway_event_vision.street.videos import VIDEOS

_LABELS = "_bbox.npy"


def build(
    videos: Path, boxes: Path, output: Path, *, widths: tuple[int, ...] = (), seed: int = 0
) -> Iterator[tuple[Path, LabelledRecording]]:
    """Write the recordings of all box files; yield each event file and what it holds. Raises DataError, OutputError."""
    teachers = sorted(boxes.glob("*.json"))
    if not teachers:
        raise DataError(f"{boxes}: no .json with boxes in it")
    for teacher in teachers:
        found = sorted(file for file in videos.glob(f"{teacher.stem}.*") if file.suffix != ".json")
        if not found:
            raise DataError(f"{videos}: no video {teacher.stem}.* for {teacher}")
        detections, names = read_coco_boxes(teacher)
        if tuple(names) != CLASS_NAMES:
            raise DataError(f"{teacher}: categories {names}; expected {', '.join(CLASS_NAMES)}")
        known = VIDEOS.get(found[0].name)
        split = known.split if known else "training"
        for width in widths or (known.widths if known else (RecordingConfig.width,)):
            # Every recording has a sensor of its own, held-out ones have the same.
            own = zlib.crc32(f"{teacher.stem} {width} {seed}".encode())
            sensor = drawn_sensor(own) if split == "training" else SensorConfig(noise_hz=0.1)
            config = RecordingConfig(width=width, sensor=sensor)
            events, labels = street_recording(found[0], detections, config, seed=own)
            target = output / split / f"{teacher.stem}-{width}.npz"
            write_events(target, events)
            write_prophesee_boxes(target.with_name(target.stem + _LABELS), labels)
            yield target, LabelledRecording(events, labels, _label_times(events))


def drawn_sensor(seed: int) -> SensorConfig:
    """A sensor of other thresholds and noise for every `seed`."""
    generator = np.random.default_rng(seed)
    on, ratio = generator.uniform(0.13, 0.3), generator.uniform(0.8, 1.25)
    return SensorConfig(
        threshold_on=on,
        threshold_off=on * ratio,
        threshold_sigma=generator.uniform(0.01, 0.05),
        noise_hz=float(np.exp(generator.uniform(np.log(0.02), np.log(0.5)))),
    )


def read_recordings(folder: Path | str) -> dict[str, LabelledRecording]:
    """What `build` wrote to one split's folder, by name. Raises DataError: nothing there, or unreadable."""
    folder = Path(folder)
    found = {}
    for file in sorted(folder.glob("*.npz")):
        events = open_events(file).read()
        boxes = read_prophesee_boxes(file.with_name(file.stem + _LABELS))
        found[file.stem] = LabelledRecording(events, boxes, _label_times(events))
    if not found:
        raise DataError(
            f"{folder}: no recordings in it; make them with multiway-event-detection street-dataset"
        )
    return found


def _label_times(events: Events) -> NDArray[np.int64]:
    every = LabelConfig().every_us
    return np.arange(every, int(events.t[-1]) + 1, every)
