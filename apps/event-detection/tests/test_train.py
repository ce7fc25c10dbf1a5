"""`train`: a folder that `detect` takes, and what is wrong in one line."""

from __future__ import annotations

import json


def test_smoke_from_nothing_to_boxes(tmp_path, call, recording):
    code, out, err = call("train", "--preset", "smoke", "-o", tmp_path / "run", "--device", "cpu")
    assert code == 0, err
    folder = tmp_path / "run" / "model"
    assert out.splitlines()[0] == str(folder)
    assert "held-out ap50" in out
    code, out, err = call("detect", recording, "--model", folder, "--json", "--score", "0")
    assert (code, err) == (0, "")
    assert json.loads(out)["classes"] == ["disc", "square", "triangle", "cross"]


def test_ones_own_recordings_with_labels(tmp_path, call, fails):
    data = tmp_path / "data"
    data.mkdir()
    for seed in range(2):
        assert call("simulate", "--shapes", "-o", data / f"{seed}.raw", "--seed", seed)[0] == 0
    (data / "classes.txt").write_text("ball\nbox\ntent\nplus\n")
    options = ("--device", "cpu", "-o", tmp_path / "run")
    code, out, err = call("train", "--preset", "own-smoke", "--data", data, *options)
    assert code == 0, err
    assert "held-out ap50" in out
    code, out, err = call("detect", data / "0.raw", "--model", tmp_path / "run" / "model", "--json")
    assert (code, json.loads(out)["classes"]) == (0, ["ball", "box", "tent", "plus"])
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no recording with labels" in fails("train", "--preset", "own", "--data", empty, *options[2:])


def test_bad_options_are_one_line(tmp_path, fails):
    assert (
        "unknown preset 'large'; there are: shapes, smoke, street, own, own-smoke, shapes-dense-cnn"
        in fails("train", "--preset", "large", "-o", tmp_path / "run")
    )
    assert "no model" in fails("train", "-o", tmp_path / "run", "--init-from", tmp_path / "none")
    assert "--device" in fails("train", "-o", tmp_path / "run", "--device", "abacus")
    assert list(tmp_path.iterdir()) == []
    assert "folder of recordings" in fails("train", "--preset", "street", "-o", tmp_path / "run")


def test_a_street_dataset(tmp_path, call, fails):
    import cv2
    import numpy as np
    from multiway_event_vision.labels import Boxes, read_prophesee_boxes, write_coco_boxes

    assert "no .json with boxes" in fails("street-dataset", tmp_path, tmp_path, "-o", tmp_path / "out")
    video = cv2.VideoWriter(str(tmp_path / "block.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (80, 60))
    for step in range(16):
        picture = np.full((60, 80, 3), 60, np.uint8)
        picture[20:45, 5 + 3 * step : 30 + 3 * step] = 220
        video.write(picture)
    video.release()
    steps, same = np.arange(16), np.ones(16)
    corners = (5 + 3 * steps, 20 * same, 25 * same, 25 * same)
    boxes = Boxes.from_arrays(steps * 50_000, *corners, same, confidence=0.9 * same)
    write_coco_boxes(tmp_path / "block.json", boxes, ["person", "vehicle"], (80, 60))
    code, out, err = call("street-dataset", tmp_path, tmp_path, "-o", tmp_path / "out", "--width", 80)
    assert code == 0, err
    labels = read_prophesee_boxes(tmp_path / "out" / "training" / "block-80_bbox.npy")
    assert "80 x 60, 0.7 s, " in out
    assert f"0 person, {len(labels)} vehicle" in out
