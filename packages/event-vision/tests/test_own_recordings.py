"""Training on one's own recordings with labels: what data sets look like on disk, and a detector of their classes."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_core.training import TrainOptions, run
from multiway_event_vision.events import Events
from multiway_event_vision.formats import write_events
from multiway_event_vision.labels import Boxes, write_coco_boxes, write_prophesee_boxes
from multiway_event_vision.labels.folder import DSEC_CLASSES, labelled_files, read_labelled
from multiway_event_vision.pipeline import DetectionPipeline
from multiway_event_vision.recipes import RECIPES
from multiway_event_vision.simulator import ShapesConfig, shapes_recording
from multiway_event_vision.street.recipe import split


@pytest.fixture(scope="module")
def scenes():
    """Three scenes of shapes with their boxes."""
    config = ShapesConfig(duration_us=400_000)
    return [shapes_recording(seed, config, label_every_us=20_000) for seed in range(3)]


def write_prophesee(folder, scenes):
    for number, (events, boxes) in enumerate(scenes):
        write_events(folder / f"{number}_td.dat", events)
        write_prophesee_boxes(folder / f"{number}_bbox.npy", boxes)


def write_dsec(folder, events: Events, boxes: Boxes, offset: int = 5_000_000):
    """A sequence as DSEC has it: times count from an offset, labels have it in them."""
    place, labels = folder / "seq" / "events" / "left", folder / "seq" / "object_detections" / "left"
    place.mkdir(parents=True)
    labels.mkdir(parents=True)
    with h5py.File(place / "events.h5", "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = getattr(events, name).astype(np.uint32 if name == "t" else np.uint16)
        file["t_offset"] = offset
        file["ms_to_idx"] = np.searchsorted(events.t, np.arange(0, 401) * 1000).astype(np.uint64)
    write_prophesee_boxes(
        labels / "tracks.npy", Boxes(**vars(boxes) | {"t": boxes.t + offset, "class_id": boxes.class_id + 2})
    )


def test_prophesees_files_and_a_list_of_names(tmp_path, scenes):
    write_prophesee(tmp_path, scenes)
    found, names = read_labelled(tmp_path)
    assert list(found) == ["0_td.dat", "1_td.dat", "2_td.dat"]
    assert names == tuple(f"class {n}" for n in range(len(names)))
    events, boxes = scenes[1]
    recording = found["1_td.dat"]
    np.testing.assert_array_equal(recording.events.t, events.t - events.t[0])
    inside = boxes.between(int(events.t[0]), int(events.t[-1]) + 1)
    np.testing.assert_array_equal(recording.boxes.x, inside.x)
    np.testing.assert_array_equal(recording.label_times, np.unique(inside.t) - events.t[0])
    (tmp_path / "classes.txt").write_text("disc\nsquare\ntriangle\ncross\n")
    assert read_labelled(tmp_path)[1] == ("disc", "square", "triangle", "cross")
    (tmp_path / "classes.txt").write_text("disc\n")
    with pytest.raises(InputError, match="there are names for 1: disc"):
        read_labelled(tmp_path)


def test_cocos_categories_go_by_their_names(tmp_path, scenes):
    (events, boxes), (other, labels) = scenes[:2]
    for name, stream, found, classes in (
        ("a", events, boxes, ["disc", "square", "triangle", "cross"]),
        ("b", other, labels, ["cross", "triangle", "square", "disc"]),  # another order
    ):
        write_events(tmp_path / f"{name}.raw", stream)
        write_coco_boxes(tmp_path / f"{name}.json", found, classes, (stream.width, stream.height))
    found, names = read_labelled(tmp_path)
    assert names == ("disc", "square", "triangle", "cross")
    np.testing.assert_array_equal(
        np.sort(np.unique(found["b.raw"].boxes.class_id)), np.sort(3 - np.unique(labels.class_id))
    )


def test_dsecs_folders_and_its_offset_of_time(tmp_path, scenes):
    events, boxes = scenes[0]
    write_dsec(tmp_path, events, boxes)
    (item,) = labelled_files(tmp_path)
    assert item.labels.name == "tracks.npy"
    found, names = read_labelled(tmp_path)
    assert names == DSEC_CLASSES
    (recording,) = found.values()
    assert len(recording.boxes) == len(boxes.between(int(events.t[0]), int(events.t[-1]) + 1))
    assert set(recording.boxes.class_id) == set(boxes.class_id + 2)


def test_what_cannot_be_trained_on(tmp_path, scenes):
    with pytest.raises(InputError, match="no recording with labels"):
        read_labelled(tmp_path)
    events, boxes = scenes[0]
    write_events(tmp_path / "a.raw", events)
    write_prophesee_boxes(tmp_path / "a_bbox.npy", Boxes(**vars(boxes) | {"t": boxes.t + 10_000_000}))
    with pytest.raises(InputError, match="no label falls into the time of its recording"):
        read_labelled(tmp_path)
    (tmp_path / "a_bbox.npy").write_bytes(b"no labels")
    with pytest.raises(DataError, match="no npy file of boxes"):
        read_labelled(tmp_path)


def test_a_fifth_is_held_out(tmp_path, scenes):
    write_prophesee(tmp_path, scenes)
    found, _ = read_labelled(tmp_path)
    training, kept = split(found)
    assert (len(training), len(kept)) == (2, 1)
    only = {"a": found["0_td.dat"]}
    (first,), (last,) = split(only)
    assert len(first.events) + len(last.events) == len(only["a"].events)
    assert int(last.events.t[0]) < 5_000
    assert len(first.boxes) + len(last.boxes) == len(only["a"].boxes)


def test_a_detector_of_ones_own_classes(tmp_path, scenes):
    data = tmp_path / "data"
    data.mkdir()
    for number, (events, boxes) in enumerate(scenes):
        write_events(data / f"{number}.raw", events)
        write_coco_boxes(
            data / f"{number}.json", boxes, ["ball", "box", "tent", "plus"], (events.width, events.height)
        )
    report = run(RECIPES["own-smoke"], TrainOptions(tmp_path / "run", (str(data),)))
    assert report.finished
    held_out = json.loads((tmp_path / "run" / "held_out.json").read_text())
    assert "ap50" in next(iter(held_out.values()))
    pipeline = DetectionPipeline.from_pretrained(str(tmp_path / "run" / "model"))
    assert pipeline.names == ("ball", "box", "tent", "plus")
    assert pipeline.domain is None  # a second tells no domain
    assert len(list(pipeline.detect(scenes[0][0])))
    with pytest.raises(InputError, match="give the folder"):
        run(RECIPES["own-smoke"], TrainOptions(tmp_path / "none"))
