"""Average precision against pycocotools; the presets by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core.errors import InputError
from multiway_event_vision.metrics.average_precision import Boxes, CocoScores, coco_scores
from multiway_event_vision.metrics.detection import PRESETS, Preset, TimedBoxes, detection_scores

CLASSES = 3


def random_images(seed: int, images: int) -> tuple[list[Boxes], list[Boxes]]:
    """Objects of all sizes, detections near them with ties of score and overlap, and some of nothing."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        count = int(rng.integers(0, 7))
        low = rng.integers(0, 200, (count, 2)).astype(float)
        boxes = np.concatenate([low, low + rng.choice([8, 20, 32, 60, 96, 150], (count, 2))], axis=1)
        label = rng.integers(0, CLASSES, count)
        truth.append(Boxes(boxes, label))
        copies = rng.integers(0, 4, count)
        near = np.repeat(boxes, copies, axis=0) + rng.choice([0.0, 1.0, 2.0, 5.0], (copies.sum(), 4))
        nothing = rng.integers(0, 200, (int(rng.integers(0, 5)), 2)).astype(float)
        boxes = np.concatenate([near, np.concatenate([nothing, nothing + 30], axis=1)])
        label = np.concatenate([np.repeat(label, copies), rng.integers(0, CLASSES, len(nothing))])
        found.append(Boxes(boxes, label, rng.choice(np.linspace(0.05, 0.95, 12), len(label))))
    return truth, found


def by_pycocotools(truth: list[Boxes], found: list[Boxes]) -> list[float]:
    coco_api = pytest.importorskip("pycocotools.coco")
    coco_eval = pytest.importorskip("pycocotools.cocoeval")
    annotations, results = [], []
    for image, (objects, detections) in enumerate(zip(truth, found, strict=True)):
        for box, label in zip(objects.boxes.tolist(), objects.label.tolist(), strict=True):
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": label, "iscrowd": 0,
                 "bbox": [x, y, w, h], "area": w * h}
            )  # fmt: skip
        for box, label, score in zip(
            detections.boxes.tolist(), detections.label.tolist(), detections.score.tolist(), strict=True
        ):
            box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            results.append({"image_id": image, "category_id": label, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        api = coco_api.COCO()
        api.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(truth))],
            "categories": [{"id": label} for label in range(CLASSES)],
            "annotations": annotations,
        }
        api.createIndex()
        evaluation = coco_eval.COCOeval(api, api.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float("nan") if x == -1 else float(x) for x in evaluation.stats[[0, 1, 2, 3, 4, 5, 8]]]


def seven(scores: CocoScores) -> list[float]:
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "recall")
    return [getattr(scores, name) for name in names]


@pytest.mark.peer
@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_pycocotools(seed: int) -> None:
    truth, found = random_images(seed, images=[1, 3, 40][seed % 3])
    if not any(len(image.label) for image in found):
        pytest.skip("pycocotools takes no empty list of results")
    expected = by_pycocotools(truth, found)
    assert seven(coco_scores(truth, found, num_classes=CLASSES)) == pytest.approx(
        expected, abs=1e-9, nan_ok=True
    )


def test_more_than_a_hundred_detections_of_a_class() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 300, (150, 2))
    boxes = np.concatenate([low, low + 20], axis=1)
    truth = [Boxes(boxes, np.zeros(150, np.int64))]
    found = [Boxes(boxes, np.zeros(150, np.int64), rng.uniform(0, 1, 150))]
    scores = coco_scores(truth, found, num_classes=CLASSES)
    assert seven(scores) == pytest.approx(by_pycocotools(truth, found), abs=1e-9, nan_ok=True)
    assert scores.recall == pytest.approx(100 / 150)


def test_by_hand() -> None:
    box = np.array([[0.0, 0, 40, 40]])
    one = np.zeros(1, np.int64)
    perfect = coco_scores([Boxes(box, one)], [Boxes(box, one, np.array([0.2]))], num_classes=2)
    assert (perfect.ap, perfect.ap_medium, perfect.recall) == pytest.approx((1.0, 1.0, 1.0))
    assert np.isnan([perfect.ap_small, perfect.ap_large, perfect.per_class[1]]).all()
    assert (perfect.images, perfect.objects, perfect.detections) == (1, 1, 1)
    # Half of the box: IoU 0.5 counts at the lowest threshold only.
    half = coco_scores([Boxes(box, one)], [Boxes(box / [1, 1, 2, 1], one, np.array([0.2]))], num_classes=2)
    assert half.ap == pytest.approx(0.1)
    assert half.ap50 == pytest.approx(1)
    nothing = coco_scores([Boxes(box, one)], [Boxes(np.empty((0, 4)), one[:0], np.empty(0))], num_classes=2)
    assert nothing.ap == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_truth_as_detections_is_perfect_and_order_of_images_is_nothing(seed: int) -> None:
    truth, found = random_images(seed, images=4)
    perfect = [Boxes(i.boxes, i.label, np.ones(len(i.label))) for i in truth]
    scores = seven(coco_scores(truth, perfect, num_classes=CLASSES))
    assert all(np.isnan(score) or score == pytest.approx(1) for score in scores)
    distinct = [Boxes(i.boxes, i.label, np.arange(len(i.label)) + n / 10) for n, i in enumerate(found)]
    forward = seven(coco_scores(truth, distinct, num_classes=CLASSES))
    backward = seven(coco_scores(truth[::-1], distinct[::-1], num_classes=CLASSES))
    assert forward == pytest.approx(backward, nan_ok=True)


def timed(rows: list[tuple[int, float, float, float, float]], *, scores: bool = False) -> TimedBoxes:
    table = np.array(rows, float).reshape(-1, 5)
    boxes = np.concatenate([table[:, 1:3], table[:, 1:3] + table[:, 3:5]], axis=1)
    score = np.linspace(0.9, 0.5, len(rows)) if scores else None
    return TimedBoxes(table[:, 0].astype(np.int64), boxes, np.zeros(len(rows), np.int64), score)


BIG, THIN, SMALL = (10.0, 10.0, 40.0, 40.0), (100.0, 10.0, 9.0, 60.0), (10.0, 100.0, 20.0, 20.0)


def scored(
    labels: list, detections: list, preset: str | Preset, reads: list[int] | None = None
) -> CocoScores:
    times = None if reads is None else [np.array(reads, np.int64)]
    return detection_scores(
        [timed(labels)], [timed(detections, scores=True)], num_classes=1, preset=preset, read_times=times
    )


def test_presets_leave_out_what_they_say() -> None:
    late = 800_000
    labels = [(100_000, *BIG), (late, *BIG), (late, *SMALL), (900_000, *THIN)]
    detections = [(100_000, *BIG), (late, *BIG), (late, *SMALL), (900_000, *THIN)]
    counts = {
        name: (s.images, s.objects, s.detections)
        for name in PRESETS
        for s in [scored(labels, detections, name)]
    }
    assert counts == {
        "coco": (3, 4, 4),
        "ssla": (3, 2, 4),  # small labels go, what was detected of them is wrong now; the last image is empty
        "prophesee": (1, 1, 1),
        "prophesee-1mpx": (0, 0, 0),  # 40 x 40 has a diagonal of 57 pixels
    }
    assert scored(labels, detections, "prophesee").ap == pytest.approx(1)
    assert scored(labels, detections, "coco").ap == pytest.approx(1)


def test_a_label_time_takes_the_nearest_read_out_alone() -> None:
    labels = [(1_000_000, *BIG)]
    away = (200.0, 150.0, 40.0, 40.0)
    detections = [(980_000, *away), (995_000, *BIG), (1_004_000, *away), (1_006_000, *away)]
    assert scored(labels, detections[:2], "coco").ap == pytest.approx(1)
    assert scored(labels, detections, "coco").ap == 0  # 1.004 s is nearer and saw it elsewhere
    assert scored(labels, [(940_000, *BIG)], "coco").ap == 0  # further away than 50 ms
    # A read-out that saw nothing is still the nearest.
    assert scored(labels, [(995_000, *BIG)], "coco", reads=[995_000, 1_000_000]).ap == 0
    assert scored(labels, [(995_000, *BIG), (1_005_000, *away)], "coco").ap == pytest.approx(
        1
    )  # of two, the earlier


def test_what_does_not_fit_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="no preset 'voc': there are ssla, prophesee, prophesee-1mpx, coco"):
        scored([], [], "voc")
    box, label = np.array([[0.0, 0, 4, 4]]), np.zeros(1, np.int64)
    good = Boxes(box, label, np.ones(1))
    bad = [
        (Boxes(box, label), "detections of image 0: each needs a score"),
        (Boxes(box, label + 1, np.ones(1)), "labels reach from 1 to 1, expected 0 to 0"),
        (Boxes(box[:, :3], label, np.ones(1)), r"boxes \(1, 3\) and labels \(1,\) do not fit"),
        (Boxes(box * np.nan, label, np.ones(1)), "a box is not finite"),
    ]
    for image, message in bad:
        with pytest.raises(InputError, match=message):
            coco_scores([good], [image], num_classes=1)
    with pytest.raises(InputError, match="0 images with detections for 1"):
        coco_scores([good], [], num_classes=1)
