"""Measuring and training by the command."""

from __future__ import annotations

import json

import pytest


def test_evaluate_a_video(video, model, tmp_path, call):
    code, out, err = call(
        "evaluate", video, "--skip", 3, "--model", model, "--json", "-o", tmp_path / "report", "--limit", 2
    )
    assert code == 0, err
    report = json.loads(out)
    assert report["n"] == 2
    metrics = {name: value["mean"] for name, value in report["metrics"].items()}
    assert metrics["psnr timereplayer"] == pytest.approx(metrics["psnr blend"], abs=0.1)  # never trained
    assert metrics["psnr dis"] > metrics["psnr blend"]
    assert metrics["ssim dis"] > metrics["ssim repeat"]
    assert set(report["groups"]) == {"video"}
    assert "LPIPS" in err or any(name.startswith("lpips") for name in metrics)
    assert (tmp_path / "report" / "report.md").is_file()


def test_evaluate_true_events(folder, events, model, call, fails):
    code, out, _ = call("evaluate", folder, "--events", events, "--skip", 1, "--model", model, "--limit", 1)
    assert code == 0
    assert "| method | psnr | ssim | ssim luma |" in out
    assert out.count("| frames | ") == 7  # auto, TimeReplayer and five that need no model
    assert "belong to one video" in fails("evaluate", folder, folder, "--events", events, "--model", model)
    assert "cannot skip 9" in fails("evaluate", folder, "--skip", 9, "--model", model)
    assert "expected 1 or more" in fails("evaluate", folder, "--skip", 0, "--model", model)


def test_train_resumes_and_its_model_works(folder, events, tmp_path, call, fails):
    run = tmp_path / "run"
    code, out, err = call(
        "train", "--data", folder, "-o", run, "--preset", "smoke", "--device", "cpu", "--minutes", 0.01
    )
    assert code == 0, err
    code, out, err = call("train", "--data", folder, "-o", run, "--preset", "smoke", "--device", "cpu")
    assert (code, out.splitlines()[0]) == (0, str(run / "model")), err
    other = tmp_path / "other"
    assert call("train", "--data", folder, "-o", other, "--preset", "smoke", "--device", "cpu")[0] == 0
    same = [(path / "model" / "model.safetensors").read_bytes() for path in (run, other)]
    assert same[0] == same[1]
    code, _, err = call(
        "interpolate",
        folder,
        "--events",
        events,
        "--factor",
        2,
        "-o",
        tmp_path / "o.mp4",
        "--model",
        run / "model",
    )
    assert code == 0, err
    assert "unknown preset 'x'" in fails("train", "--data", folder, "-o", run, "--preset", "x")
    assert "no such file" in fails("train", "--data", tmp_path / "none.mp4", "-o", run, "--preset", "smoke")
