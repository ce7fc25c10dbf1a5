"""The commands on a generated slide, with a tiny model that `train` wrote, and on input that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 1024


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from multiway_pathology.example import write_example

    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    write_example(path, SIDE)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights with the names of two classes."""
    import dataclasses

    import torch
    from multiway_vision_language.longvit.checkpoint import save
    from multiway_vision_language.longvit.model import LongViT
    from multiway_vision_language.longvit.recipe import RECIPES

    config = dataclasses.replace(
        RECIPES["smoke"].model, task="classify", labels=("apart", "near"), input_size=256, image_size=256
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save(LongViT(config), folder)
    return folder


@pytest.fixture
def command(capfd):
    """Runs the command line in this process: (exit code, standard output, standard error)."""
    from multiway_core.app.command import run
    from multiway_pathology.cli import cli

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(cli, [str(argument) for argument in arguments], name="multiway-pathology")
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def refused(answer: tuple[int, str, str], *words: str) -> None:
    code, out, err = answer
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if line.startswith("multiway-pathology: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    assert all(word in lines[0] for word in words), lines


def test_info_and_thumbnail_know_the_levels(command, slide, tmp_path):
    code, out, _ = command("info", slide, "--json")
    found = json.loads(out)
    assert (code, found["width"], found["format"]) == (0, SIDE, "generic-tiff")
    assert found["levels"] == [[1024, 1024], [512, 512]]
    assert command("thumbnail", slide, "-o", tmp_path / "a.png", "--size", 128)[0] == 0
    page = np.asarray(Image.open(tmp_path / "a.png"))
    assert page.shape == (128, 128, 3)
    assert page.std() > 5  # the tissue is on it


def test_classify_embed_and_heatmap(command, slide, model, tmp_path):
    code, out, err = command("classify", slide, "--model", model, "--json", "--device", "cpu")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert code == 0
    assert found["notice"] == "For research only; no medical device."
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found["probabilities"][found["label"]] == max(found["probabilities"].values())
    assert command("embed", slide, "-o", tmp_path / "v.npz", "--model", model, "--device", "cpu")[0] == 0
    vectors = np.load(tmp_path / "v.npz")["vectors"]
    assert vectors.shape == (1, 32)
    assert np.isfinite(vectors).all()
    heat = ("heatmap", slide, "-o", tmp_path / "h.png", "--geojson", tmp_path / "h.json", "--model", model)
    assert command(*heat, "--device", "cpu")[0] == 0
    assert Image.open(tmp_path / "h.png").size == (SIDE, SIDE)
    cells = json.loads((tmp_path / "h.json").read_text())["features"]
    assert cells
    corners = np.array([cell["geometry"]["coordinates"][0] for cell in cells])
    assert corners.min() >= 0
    assert corners.max() <= SIDE


def test_a_slide_in_train_and_test_is_refused(command, slide, tmp_path):
    rows = [
        f"{slide},{'ab'[number % 2]},p{number},{'train' if number < 4 else 'test'}" for number in range(8)
    ]
    table = tmp_path / "slides.csv"
    table.write_text("slide,label,patient,split\n" + "\n".join(rows))
    refused(train(command, table, tmp_path), "slide", "in train and in test")


def train(command, table: Path, folder: Path, *more: object) -> tuple[int, str, str]:
    options = ("--steps", 1, "--size", 64, "--device", "cpu", "--output", folder / "run")
    return command("train", "--data", table, *options, *more)


def test_a_truncated_slide_is_one_line(command, slide, tmp_path):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(slide.read_bytes()[:20_000])
    refused(command("info", broken), "broken.tif")
    refused(command("thumbnail", broken, "-o", tmp_path / "a.png"), "broken.tif")
    assert not (tmp_path / "a.png").exists()


def test_a_patient_in_train_and_test_is_refused(command, tmp_path):
    table = tmp_path / "slides.csv"
    table.write_text("slide,label,patient,split\na.tif,x,p1,train\nb.tif,y,p1,test\n")
    refused(train(command, table, tmp_path), "patient p1 is in train and in test")


def test_a_negative_time_is_refused(command, tmp_path):
    table = tmp_path / "slides.csv"
    table.write_text("slide,time,event,patient,split\na.tif,-3,1,p1,train\nb.tif,4,1,p2,test\n")
    refused(train(command, table, tmp_path, "--preset", "survival"), "line 2", "-3")


def test_without_a_model_it_says_what_to_train(command, slide):
    refused(command("classify", slide), "no model is bundled yet", "multiway-pathology train")
