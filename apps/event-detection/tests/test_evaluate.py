"""`evaluate`: labels of every kind give the scores that they must, the age curve is what it says, errors are a line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from multiway_core.app import ModelOptions
from multiway_core.evaluation import Report
from multiway_event_detection.evaluation import Run
from multiway_event_detection.shapes_evaluation import _held_ages, _held_scores, evaluate_shapes
from multiway_event_vision.formats import write_events
from multiway_event_vision.labels import Boxes, read_prophesee_boxes, write_coco_boxes, write_prophesee_boxes
from multiway_event_vision.metrics.detection import TimedBoxes
from multiway_event_vision.pipeline import DetectionOptions
from multiway_event_vision.result import Counters

NAMES = ["disc", "square", "triangle", "cross"]


@pytest.fixture
def labels(call, recording, model, tmp_path):
    """The model's own best boxes, as labels: it must get full marks for them."""
    path = tmp_path / "own_bbox.npy"
    detect = ("detect", recording, "--model", model, "--period", "50ms", "--score", "0.55")
    assert call(*detect, "--npy", path)[0] == 0
    assert len(read_prophesee_boxes(path)) > 5
    return path


@pytest.fixture
def evaluate(call, model):
    """`evaluate ... --json`, as a report."""

    def run_command(*arguments) -> Report:
        code, out, err = call("evaluate", *arguments, "--model", model, "--period", "50ms", "--json")
        assert code == 0, err
        return Report.from_json(json.loads(out))

    return run_command


def test_own_boxes_get_full_marks(evaluate, recording, labels):
    report = evaluate(recording, "--labels", labels)
    assert report.metrics["ap"].mean == pytest.approx(1)
    assert report.metrics["recall"].mean == pytest.approx(1)
    assert report.rows[0]["metrics"]["ap50"] == pytest.approx(1)
    assert set(report.groups) <= set(NAMES)
    assert report.metrics["us/event"].mean > 0
    assert report.metrics["MFLOP/event p99"].mean > report.metrics["MFLOP/event"].mean
    assert 0 < report.metrics["age of a box when read, ms"].mean < 200


def test_moved_boxes_do_not(evaluate, recording, labels, tmp_path):
    boxes = read_prophesee_boxes(labels)
    moved = Boxes(**vars(boxes) | {"x": boxes.x + 0.4 * boxes.width})
    write_prophesee_boxes(tmp_path / "moved.npy", moved)
    assert evaluate(recording, "--labels", tmp_path / "moved.npy").metrics["ap"].mean < 0.5
    # all are smaller than what this preset counts
    assert "ap" not in evaluate(recording, "--labels", labels, "--preset", "ssla").metrics


def test_classes_of_coco_go_by_name(evaluate, recording, labels, tmp_path):
    boxes = read_prophesee_boxes(labels)
    turned = Boxes(**vars(boxes) | {"class_id": 3 - boxes.class_id})
    write_coco_boxes(tmp_path / "a.json", turned, NAMES[::-1], (40, 30))
    assert evaluate(recording, "--labels", tmp_path / "a.json").metrics["ap"].mean == pytest.approx(1)


def test_a_folder_in_the_layout_of_prophesee(evaluate, events, labels, tmp_path):
    folder = tmp_path / "set" / "test"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        write_events(folder / f"{name}_td.dat", events)
        shutil.copyfile(labels, folder / f"{name}_bbox.npy")
    (folder / "broken_td.dat").write_bytes(b"% Width 40\n")
    shutil.copyfile(labels, folder / "broken_bbox.npy")
    report = evaluate(tmp_path / "set")
    assert (report.n, report.failed) == (3, 1)
    assert report.metrics["ap"].mean == pytest.approx(1)
    assert [row["name"] for row in report.rows if "error" in row] == [str(folder / "broken_td.dat")]
    assert evaluate(tmp_path / "set", "--limit", "2").n == 2


def test_an_annotation_of_ncaltech101_holds_for_the_whole_recording(evaluate, events, labels, tmp_path):
    boxes = read_prophesee_boxes(labels)
    last = boxes[boxes.t == boxes.t.max()]
    best = last[[int(np.argmax(last.confidence))]]
    x, y, right, bottom = (
        float(n) for n in (best.x[0], best.y[0], best.x[0] + best.width[0], best.y[0] + best.height[0])
    )
    folder = tmp_path / "images" / NAMES[best.class_id[0]]
    folder.mkdir(parents=True)
    write_events(folder / "image_0001.raw", events)
    corners = np.rint([0, 0, x, y, right, y, right, bottom, x, bottom]).astype("<i2")
    (tmp_path / "boxes" / folder.name).mkdir(parents=True)
    corners.tofile(tmp_path / "boxes" / folder.name / "annotation_0001.bin")
    report = evaluate(tmp_path / "images", "--labels", tmp_path / "boxes")
    assert report.n == 1
    assert report.metrics["recall"].mean > 0


def boxes_at(*rows, ages=None):
    t, x, label, score = (np.array(column) for column in zip(*rows, strict=True))
    corners = np.stack([x, x * 0, x + 10, x * 0 + 10], axis=1).astype(float)
    return TimedBoxes(t, corners, label, score.astype(float))


def test_between_read_outs_a_user_has_the_last_one():
    """An object moves 4 pixels between read-outs; the label falls just before the next one."""
    labels = boxes_at((19, 4, 0, 1), (25, 5, 0, 1))
    found = boxes_at((10, 0, 0, 0.9), (10, 50, 0, 0.2), (20, 4, 0, 0.8))
    run = Run(
        "a", labels, found, np.array([3, 9, 2]), np.array([10, 20]), Counters(), 0.0, 0.0, (), np.array([5, 19, 25])
    )  # fmt: skip
    scores = _held_scores([run])
    assert scores.images == 3
    # 19: the box of 10 overlaps by 6 of 14, a miss that comes first; 25: that of 20 hits: half of it at half precision
    assert scores.ap50 == pytest.approx(0.25, abs=0.01)
    # 19: read at 10 when 3 old, so 12; the weak one does not count. 25: read at 20 when 2 old, so 7.
    assert _held_ages([run], 0)["age of a box, ms"].mean == pytest.approx((12 + 7) / 2 / 1e3)


def test_shapes_need_no_data(model):
    options = DetectionOptions(period=50_000, score=0.001)
    seen = []
    report = evaluate_shapes(
        ModelOptions(str(model)), options, recordings=1, periods=(50_000, 100_000), on_recording=seen.append
    )
    assert seen == ["shapes 0"]
    assert "continuous, read every 50 ms" in report.groups
    assert report.metrics == report.groups["continuous, read every 50 ms"]
    rare = report.groups["continuous, read every 100 ms"]
    assert rare["age of a box, ms"].mean > report.metrics["age of a box, ms"].mean
    assert rare["MFLOP/event"].mean == report.metrics["MFLOP/event"].mean
    assert rare["MFLOP/event of peeks"].mean < report.metrics["MFLOP/event of peeks"].mean
    assert set(report.groups) == {
        "continuous, read every 50 ms",
        "continuous, read every 100 ms",
        "window, read every 50 ms",
        "sliding, read every 50 ms",
    }


def test_the_report_can_be_kept(call, recording, labels, model, tmp_path):
    code, out, _ = call("evaluate", recording, "--labels", labels, "--model", model, "-o", tmp_path / "new")
    assert code == 0
    assert out == (tmp_path / "new" / "report.md").read_text()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "report.json",
        "report.md",
        "report.png",
    ]


def test_bad_input_is_one_line(recording, labels, model, tmp_path, fails):
    boxes = read_prophesee_boxes(labels)
    many = Boxes(**vars(boxes) | {"class_id": boxes.class_id + 7})
    write_prophesee_boxes(tmp_path / "many.npy", many)
    write_coco_boxes(tmp_path / "car.json", boxes, ["car", "bus", "tram", "van"], (40, 30))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY nonsense")
    (tmp_path / "short.bin").write_bytes(b"12")
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        ((recording,), "give its labels: --labels FILE"),
        ((recording, "--labels", tmp_path / "none.npy"), "no such file"),
        ((recording, "--labels", tmp_path / "bad.npy"), "no npy file of boxes"),
        ((recording, "--labels", tmp_path / "car.json"), "the class"),
        ((recording, "--labels", tmp_path / "many.npy"), "the model has 4"),
        ((recording, "--labels", tmp_path / "short.bin"), "short.bin"),
        ((recording, "--labels", recording), "expected labels"),
        ((tmp_path / "none.raw", "--labels", labels), "no such file"),
        ((tmp_path / "empty",), "no recording with labels"),
        ((tmp_path / "empty", "--labels", labels), "expected a folder of labels too"),
        ((recording, "--labels", labels, "--preset", "best"), "'best'"),
        (("shapes", "--labels", labels), "shapes bring their labels"),
        (("shapes", "--preset", "coco"), "shapes bring their labels"),
    ]:
        assert message in fails("evaluate", *arguments, "--model", model), arguments
