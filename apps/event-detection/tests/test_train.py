"""`train`: a folder that `detect` takes, and what is wrong in one line."""

from __future__ import annotations

import json


def test_smoke_from_nothing_to_boxes(tmp_path, call, recording):
    code, out, err = call("train", "--preset", "smoke", "-o", tmp_path / "run", "--device", "cpu")
    assert code == 0, err
    folder = tmp_path / "run" / "model"
    assert out == f"{folder}\n"
    code, out, err = call("detect", recording, "--model", folder, "--json", "--score", "0")
    assert (code, err) == (0, "")
    assert json.loads(out)["classes"] == ["disc", "square", "triangle", "cross"]


def test_bad_options_are_one_line(tmp_path, fails):
    assert "unknown preset 'large'; there are: shapes, smoke, street, shapes-dense-cnn" in fails(
        "train", "--preset", "large", "-o", tmp_path / "run"
    )
    assert "no model" in fails("train", "-o", tmp_path / "run", "--init-from", tmp_path / "none")
    assert "--device" in fails("train", "-o", tmp_path / "run", "--device", "abacus")
    assert list(tmp_path.iterdir()) == []
