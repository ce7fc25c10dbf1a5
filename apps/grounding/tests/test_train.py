"""``train``: from rows of captions with boxes to a folder that ``--model`` takes, and what is wrong in one line."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def rows(photo):
    """One caption of the photo."""
    phrase = {"span": [12, 21], "boxes": [[40, 9, 70, 50]]}
    row = {"image": photo.name, "caption": "An image of a snowman.", "phrases": [phrase]}
    file = photo.with_name("rows.jsonl")
    file.write_text(json.dumps(row) + "\n")
    return file


def test_a_model_is_fine_tuned_and_used(rows, photo, model, tmp_path, call):
    arguments = ["train", "--data", rows, "--init-from", model, "-o", tmp_path / "run", "--batch-size", "1"]
    code, out, err = call(*arguments, "--epochs", "2", "--learning-rate", "1e-3", "--device", "cpu")
    folder = out.splitlines()[0]
    assert (code, folder) == (0, str(tmp_path / "run" / "model")), err
    code, out, _ = call("locate", photo, "a snowman", "--model", folder, "--json")
    assert code == 0
    assert json.loads(out)["entities"][0]["boxes"]


def test_what_is_wrong_is_one_line(rows, model, tmp_path, call):
    bad = rows.with_name("bad.jsonl")
    bad.write_text(rows.read_text() + '{"image": "photo.png"}\n')
    for arguments, message in (
        (["--init-from", model], "--preset fine-tune needs --data FILE.jsonl"),
        (["--data", rows], "--preset fine-tune needs --init-from MODEL"),
        (["--data", bad, "--init-from", model], "bad.jsonl:2"),
        (["--data", tmp_path / "no.jsonl", "--init-from", model], "no.jsonl"),
        (["--data", rows, "--init-from", tmp_path / "no-model"], "no model"),
        (["--data", rows, "--init-from", model, "--epochs", "0"], "--epochs"),
        (["--preset", "grounding-small"], "pre-training needs --data DIR"),
        (["--preset", "grounding-small", "--data", tmp_path / "no"], "no such folder"),
        (["--preset", "large"], "unknown preset 'large'; there are: fine-tune, grounding-small,"),
        (["--preset", "grounding-small", "--epochs", "2"], "--epochs: the preset grounding-small has no"),
    ):
        code, out, err = call("train", *arguments, "-o", tmp_path / "run")
        assert (code, out) == (2, ""), arguments
        assert message in err
        assert len(err.splitlines()) == 1


def test_smoke_needs_no_data(tmp_path, call):
    code, out, err = call("train", "--preset", "smoke", "--steps", 3, "-o", tmp_path / "run", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["finished"]
    assert report["held_out_before"]["loss"] > 0
    assert (tmp_path / "run" / "model" / "config.json").is_file()
