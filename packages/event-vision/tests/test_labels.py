"""Labels of the data sets: round trips, other people's field names, and one line for what is bad."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiway_core.errors import DataError, InputError
from multiway_event_vision.labels import (
    Boxes,
    read_coco_boxes,
    read_ncaltech101_boxes,
    read_prophesee_boxes,
    write_coco_boxes,
    write_prophesee_boxes,
)

NAMES = ("t", "x", "y", "width", "height", "class_id", "track_id", "confidence")


def made_boxes(count: int = 20) -> Boxes:
    generator = np.random.default_rng(0)
    return Boxes.from_arrays(
        generator.integers(0, 5, count) * 50_000,
        generator.uniform(-10, 200, count),
        generator.uniform(-10, 200, count),
        generator.uniform(1, 80, count),
        generator.uniform(1, 80, count),
        generator.integers(0, 2, count),
        np.arange(count),
        generator.random(count),
    )


def assert_same(found: Boxes, expected: Boxes) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_prophesee_round_trip_and_old_names(tmp_path):
    boxes = made_boxes()
    write_prophesee_boxes(tmp_path / "a.npy", boxes)
    assert_same(read_prophesee_boxes(tmp_path / "a.npy"), boxes)
    fields = [("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1")]
    old = np.zeros(2, [*fields, ("confidence", "<f4"), ("track_id", "<u4")])
    old["ts"], old["w"], old["h"], old["confidence"] = [9, 7], 5, 6, [0.25, 0.5]
    np.save(tmp_path / "b.npy", old)
    found = read_prophesee_boxes(tmp_path / "b.npy")
    assert found.t.tolist() == [7, 9]  # sorted
    assert found.confidence.tolist() == [0.5, 0.25]


def test_coco_round_trip(tmp_path):
    boxes = made_boxes()
    write_coco_boxes(tmp_path / "a.json", boxes, ["car", "person"], (304, 240))
    found, names = read_coco_boxes(tmp_path / "a.json")
    assert names == ["car", "person"]
    assert_same(found, boxes)
    empty = boxes.between(-1, 0)
    write_coco_boxes(tmp_path / "b.json", empty, ["car"], (304, 240))
    assert len(read_coco_boxes(tmp_path / "b.json")[0]) == 0
    with pytest.raises(InputError, match="class 1 has no name among 1"):
        write_coco_boxes(tmp_path / "c.json", boxes, ["car"], (304, 240))


def test_coco_ids_with_gaps_and_crowds(tmp_path):
    data = {
        "images": [{"id": 70}, {"id": 71, "timestamp": 900}],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"image_id": 71, "category_id": 3, "bbox": [1, 2, 3, 4]},
            {"image_id": 70, "category_id": 90, "bbox": [5, 6, 7, 8]},
            {"image_id": 70, "category_id": 90, "bbox": [5, 6, 7, 8], "iscrowd": 1},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    found, _ = read_coco_boxes(tmp_path / "a.json")
    assert (found.t.tolist(), found.class_id.tolist()) == ([0, 900], [0, 1])


def test_ncaltech101(tmp_path):
    numbers = np.array([2, 5, 10, 20, 110, 20, 110, 90, 10, 90, 0, 0], "<i2")
    (tmp_path / "a.bin").write_bytes(numbers.tobytes())
    found = read_ncaltech101_boxes(tmp_path / "a.bin", 7)
    assert [float(getattr(found, name)[0]) for name in NAMES[:6]] == [0, 10, 20, 100, 70, 7]
    (tmp_path / "b.bin").write_bytes(numbers.tobytes()[:11])
    with pytest.raises(DataError, match="11 bytes; expected at least 10 numbers"):
        read_ncaltech101_boxes(tmp_path / "b.bin", 7)
    with pytest.raises(DataError, match="cannot read"):
        read_ncaltech101_boxes(tmp_path / "c.bin", 7)


def test_bad_labels(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match="no array of records"):
        read_prophesee_boxes(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.zeros(3, [("t", "i8"), ("x", "f4")]))
    with pytest.raises(DataError, match="no field y of numbers; found t, x"):
        read_prophesee_boxes(tmp_path / "b.npy")
    whole = (tmp_path / "b.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(whole.replace(b"(3,), }" + b" " * 30, b"(%d,), }" % 10**30))
    with pytest.raises(DataError, match="no npy file of boxes"):
        read_prophesee_boxes(tmp_path / "d.npy")
    np.save(tmp_path / "c.npy", np.array([{"t": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="no npy file of boxes"):
        read_prophesee_boxes(tmp_path / "c.npy")
    with pytest.raises(InputError, match=r"box 1 at 5 us: .*width 0.0.*a positive size"):
        Boxes.from_arrays([4, 5], [0, 0], [0, 0], [1, 0], [1, 1], [0, 0])
    (tmp_path / "d.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"not the form of COCO \(KeyError: 'categories'\)"):
        read_coco_boxes(tmp_path / "d.json")


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(max_size=200), st.integers(0, 400), st.binary(min_size=1, max_size=6))
def test_damaged_labels(tmp_path, noise, at, piece):
    write_prophesee_boxes(tmp_path / "a.npy", made_boxes(3))
    whole = (tmp_path / "a.npy").read_bytes()
    for data in (noise, whole[:at] + piece + whole[at + len(piece) :], whole[:at]):
        (tmp_path / "b").write_bytes(data)
        for read in (read_prophesee_boxes, read_coco_boxes, lambda path: read_ncaltech101_boxes(path, 0)):
            try:
                read(tmp_path / "b")
            except DataError as error:
                line = str(error)
                assert len(line.splitlines()) == 1
