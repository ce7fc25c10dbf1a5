"""Do objects keep their numbers? The tracker over the bundled detector's boxes, on test scenes of the shapes set.

    python -m benchmarks.event_vision.detection_tracking [--scenes 40] [--output DIR]

Scenes of 400 ms that no training has seen, read every 10 ms and labelled as often; boxes of score 0.3 and more. A label
is matched with a tracked box of overlap 0.5 or more, the same one as before where that still holds (CLEAR MOT;
Bernardin and Stiefelhagen, 2008). Beside it: the same with tracks of nearest overlap between read-outs alone (the
IoU tracker of Bochinski et al., 2017): no pace, no second chance, greedy. Intervals: bootstrap over scenes, 95 %.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_event_vision.labels.labelled import LabelledRecording
from multiway_event_vision.pipeline import BUNDLED_MODELS, DetectionOptions, DetectionPipeline
from multiway_event_vision.result import Prediction
from multiway_event_vision.ssla_det.shapes_set import shapes_set
from multiway_event_vision.street.tracks import overlaps
from multiway_event_vision.tracking import NO_TRACK, Tracker
from scipy.optimize import linear_sum_assignment

PERIOD, MATCHED = 10_000, 0.5
Follow = Callable[[Iterable[Prediction]], Iterator[Prediction]]


def by_overlap(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Each box has the number of the box before that it overlaps most, else a new one."""
    before, numbers, begun = np.zeros((0, 4)), np.zeros(0, np.int64), 0
    for prediction in predictions:
        boxes_M4 = prediction.boxes_M4.astype(np.float64)
        track_M = np.full(len(prediction), NO_TRACK, np.int64)
        overlap_TM = overlaps(before, boxes_M4)
        while overlap_TM.size and overlap_TM.max() >= 0.2:
            old, new = np.unravel_index(int(overlap_TM.argmax()), overlap_TM.shape)
            track_M[new] = numbers[old]
            overlap_TM[old], overlap_TM[:, new] = 0, 0
        for at in np.flatnonzero(track_M == NO_TRACK):
            track_M[at], begun = begun, begun + 1
        before, numbers = boxes_M4, track_M
        yield replace(prediction, track_M=track_M)


def counted(scene: LabelledRecording, predictions: Iterable[Prediction]) -> dict[str, int]:
    """Labels, those matched, wrong boxes, and how often an object changed its number."""
    held: dict[int, int] = {}
    found = dict.fromkeys(("labels", "matched", "wrong", "switches"), 0)
    for read in predictions:
        labels = scene.boxes_at(read.t)
        if not len(labels):
            continue
        assert read.track_M is not None
        kept = read.track_M >= 0
        boxes_M4, track_M = read.boxes_M4[kept].astype(np.float64), read.track_M[kept]
        corners_N4 = np.stack(
            [labels.x, labels.y, labels.x + labels.width, labels.y + labels.height], 1
        ).astype(np.float64)
        overlap_NM = overlaps(corners_N4, boxes_M4)
        worth_NM = np.where(overlap_NM >= MATCHED, overlap_NM, 0)
        for row, identity in enumerate(labels.track_id.tolist()):
            worth_NM[row, track_M == held.get(identity, -1)] *= 10  # the same one, where it still holds
        rows, columns = linear_sum_assignment(worth_NM, maximize=True)
        pairs = [(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if worth_NM[r, c] > 0]
        for row, column in pairs:
            identity, track = int(labels.track_id[row]), int(track_M[column])
            found["switches"] += identity in held and held[identity] != track
            held[identity] = track
        found["labels"] += len(labels)
        found["matched"] += len(pairs)
        found["wrong"] += len(boxes_M4) - len(pairs)
    return found


def summed(rows: list[dict[str, int]]) -> dict[str, float]:
    total = {key: sum(row[key] for row in rows) for key in rows[0]}
    missed = total["labels"] - total["matched"]
    return {
        "MOTA": 1 - (missed + total["wrong"] + total["switches"]) / total["labels"],
        "recall": total["matched"] / total["labels"],
        "precision": total["matched"] / max(1, total["matched"] + total["wrong"]),
        "switches a hundred labels": 100 * total["switches"] / total["labels"],
    }


def measured(scenes: list[LabelledRecording], followers: dict[str, Follow]) -> dict[str, Any]:
    pipeline = DetectionPipeline.from_pretrained(BUNDLED_MODELS[0])
    options = DetectionOptions(period=PERIOD)
    rows: dict[str, list[dict[str, int]]] = {name: [] for name in followers}
    for scene in scenes:
        reads = list(pipeline.detect(scene.events, options))
        for name, follow in followers.items():
            rows[name].append(counted(scene, follow(iter(reads))))
    drawn = np.random.default_rng(0).integers(len(scenes), size=(1000, len(scenes)))
    found: dict[str, Any] = {}
    for name, own in rows.items():
        means = summed(own)
        spread = [summed([own[i] for i in chosen]) for chosen in drawn]
        found[name] = {
            key: [value, *np.quantile([each[key] for each in spread], (0.025, 0.975)).tolist()]
            for key, value in means.items()
        }
    return found


def page(report: dict[str, Any]) -> str:
    names = list(next(iter(report["trackers"].values())))
    lines = [
        [
            tracker,
            *(f"{values[name][0]:.3f} [{values[name][1]:.3f}, {values[name][2]:.3f}]" for name in names),
        ]
        for tracker, values in report["trackers"].items()
    ]
    about = (
        f"`{report['command']}`, {report['started_at'][:10]}, {report['machine']['cpu']}, one thread; "
        f"{report['scenes']} test scenes of the shapes set, read every 10 ms.\n"
    )
    return "\n".join(("# Do objects keep their numbers?\n", about, harness.table(["tracker", *names], lines)))


def main() -> None:
    parser = harness.parser(__doc__, "event_vision")
    parser.add_argument("--scenes", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenes = shapes_set("test", options.scenes, label_every_us=PERIOD)
    followers: dict[str, Follow] = {
        "tracks of `detect --track`": lambda reads: Tracker().follow(reads),
        "overlap alone": by_overlap,
    }
    trackers = measured(scenes, followers)
    report = harness.provenance("detection-tracking") | {"scenes": options.scenes, "trackers": trackers}
    harness.save(Path(options.output), "detection-tracking", report, page(report))


if __name__ == "__main__":
    main()
