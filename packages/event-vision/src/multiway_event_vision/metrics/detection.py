"""Matches detections with labels in time; each label time is one image of COCO's average precision.

Three presets, because published numbers differ in what they leave out:

* "ssla": small labels are dropped, detections are all kept; every label time is an image, also one whose labels were
  all dropped. The released code of SSLA-Det.
* "prophesee": small boxes are dropped from labels and detections, as is all of the first half second; label times that
  keep a label are images. "prophesee-1mpx" has that protocol's sizes for the larger sensor.
* "coco": nothing is left out.

Detections belong to the label time that they were read for. Where a detector reads more often than labels come, an
image gets the read-out nearest to its time within the tolerance, and no other: several read-outs in one image would
count every object but once, and all other detections of it as wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_event_vision.metrics.average_precision import Boxes, CocoScores, Floats, coco_scores

Int64s = NDArray[np.int64]


@dataclass(frozen=True)
class TimedBoxes:
    """Labels or detections of one recording."""

    t: Int64s
    """(N,) int64 microseconds since the recording's start."""
    boxes: Floats
    """(N, 4): x1, y1, x2, y2 in pixels."""
    label: Int64s
    score: Floats | None = None
    """Of detections."""

    def __getitem__(self, index: NDArray[np.bool_] | Int64s) -> TimedBoxes:
        score = None if self.score is None else self.score[index]
        return TimedBoxes(self.t[index], self.boxes[index], self.label[index], score)


@dataclass(frozen=True)
class Preset:
    """What counts."""

    skip_us: int = -1
    """Boxes up to this time are left out."""
    min_diagonal: float = 0.0
    min_side: float = 0.0
    """Pixels; smaller boxes are left out,"""
    filter_detections: bool = False
    """of detections, too."""
    keep_empty_times: bool = True
    """Whether a label time all of whose labels were left out is still an image."""
    tolerance_us: int = 50_000
    """How far a read-out may be from the label time it is taken for."""


PRESETS: Final[dict[str, Preset]] = {
    "ssla": Preset(min_diagonal=30, min_side=10),
    "prophesee": Preset(500_000, 30, 10, filter_detections=True, keep_empty_times=False),
    "prophesee-1mpx": Preset(500_000, 60, 20, filter_detections=True, keep_empty_times=False),
    "coco": Preset(),
}


def detection_scores(
    labels: Sequence[TimedBoxes],
    detections: Sequence[TimedBoxes],
    *,
    num_classes: int,
    preset: str | Preset = "coco",
    read_times: Sequence[Int64s] | None = None,
) -> CocoScores:
    """Score the detections of recordings.

    read_times: of each recording, when the detector was read, in microseconds; a read-out without detections is known
    only so. Without it the times of the detections are taken.

    Raises InputError: unknown preset, numbers of recordings or shapes that do not fit.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise InputError(f"no preset {preset!r}: there are {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    reads = [found.t for found in detections] if read_times is None else read_times
    if not len(labels) == len(detections) == len(reads):
        raise InputError(
            f"{len(labels)} recordings with labels, {len(detections)} with detections, {len(reads)} with times"
        )
    images: list[tuple[Boxes, Boxes]] = []
    for truth, found, times in zip(labels, detections, reads, strict=True):
        images += _images(truth, found, np.unique(times), preset)
    return coco_scores(
        [truth for truth, _ in images], [found for _, found in images], num_classes=num_classes
    )


def keep(boxes: TimedBoxes, preset: Preset) -> NDArray[np.bool_]:
    """Which boxes the preset's limits of time and size let through."""
    width, height = (boxes.boxes[:, 2:] - boxes.boxes[:, :2]).T
    large = width * width + height * height >= preset.min_diagonal**2
    return large & (width >= preset.min_side) & (height >= preset.min_side) & (boxes.t > preset.skip_us)


def _images(truth: TimedBoxes, found: TimedBoxes, reads: Int64s, preset: Preset) -> list[tuple[Boxes, Boxes]]:
    times = np.unique(truth.t)
    truth = truth[keep(truth, preset)]
    if preset.filter_detections:
        found = found[keep(found, preset)]
    if not preset.keep_empty_times:
        times = np.unique(truth.t)
    images = []
    for time in times[times > preset.skip_us]:
        nearest = _nearest(reads, int(time))
        matched = np.zeros(len(found.t), bool)
        if nearest is not None and abs(nearest - int(time)) <= preset.tolerance_us:
            matched = found.t == nearest
        images.append((_image(truth[truth.t == time]), _image(found[matched])))
    return images


def _image(boxes: TimedBoxes) -> Boxes:
    return Boxes(boxes.boxes, boxes.label, boxes.score)


def _nearest(reads: Int64s, time: int) -> int | None:
    """The read-out nearest to a time, the earlier of two: a detector should not know what comes."""
    at = int(np.searchsorted(reads, time))
    around = [int(t) for t in reads[max(at - 1, 0) : at + 1]]
    return min(around, key=lambda t: abs(t - time), default=None)
