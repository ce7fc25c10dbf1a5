"""The commands on a generated slide, with a tiny model that `train` wrote, and on input that is wrong."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from multiway_pathology.example import GeneratedSlide, write_example
from multiway_pathology.slides import open_slide
from multiway_pathology.tiled_tiff import TILE, write_pyramid
from PIL import Image

SIDE = 1024


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    assert vectors.shape == (1, 64)
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


def test_the_bundled_model_reads_slides_it_has_not_seen(command, tmp_path):
    from multiway_vision_language.longvit.tissue import LABELS

    for number in (2, 5):
        path = tmp_path / f"{number}.tif"
        write_example(path, 512, number)
        code, out, err = command("classify", path, "--json", "--device", "cpu")
        assert (code, json.loads(out)["label"]) == (0, LABELS["order"][number % 2])
        assert "generated slides alone" in err


def table_of(folder: Path, rows: list[str], header: str = "slide,label,patient,split") -> Path:
    path = folder / "slides.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def glass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide without tissue."""
    path = tmp_path_factory.mktemp("glass") / "glass.tif"
    write_pyramid(path, SIDE, SIDE, lambda *_: np.full((TILE, TILE, 3), 243, np.uint8))
    return path


def test_a_slide_without_tissue_is_refused(command, glass, slide, model, tmp_path):
    refused(command("classify", glass, "--model", model), "glass.tif", "background")
    table = table_of(tmp_path, [f"{glass},a,p1,train", f"{slide},b,p2,train", f"{slide},a,p3,test"])
    refused(train(command, table, tmp_path), "slide", "in train and in test")
    refused(command("pretrain", "--data", glass, "--output", tmp_path / "run", "--steps", 1), "background")


def test_a_slide_without_levels_is_read_in_parts(command, tmp_path, monkeypatch):
    from multiway_pathology import slides

    pixels = GeneratedSlide(SIDE)
    paths = [tmp_path / "levels.tif", tmp_path / "flat.tif"]
    for path, smallest in zip(paths, (512, SIDE), strict=True):
        write_pyramid(path, SIDE, SIDE, tile_of(pixels), smallest=smallest)
    levels, flat = (slides.open_slide(path) for path in paths)
    assert len(flat.level_sizes) == 1
    whole = flat.read((0, 0, SIDE, SIDE), (128, 128))
    monkeypatch.setattr(slides, "MAX_REGION", 1 << 16)
    parts = flat.read((0, 0, SIDE, SIDE), (128, 128))
    assert np.abs(parts.astype(int) - whole).mean() < 1
    from_levels = levels.read((0, 0, SIDE, SIDE), (128, 128))
    assert np.abs(parts.astype(int) - from_levels).mean() < 6


def tile_of(raster):
    def tile(level: int, row: int, column: int) -> np.ndarray:
        step = TILE << level
        left, top = column * step, row * step
        return raster.read((left, top, left + step, top + step), (TILE, TILE))

    return tile


@pytest.mark.parametrize("said", ["0", "-0.25", "nan", "1e9", "half a micron"])
def test_a_resolution_that_cannot_be_is_unknown(slide, said):
    raster = open_slide(slide)
    raster._slide = SimpleNamespace(properties={"openslide.mpp-x": said, "openslide.mpp-y": said})
    assert raster.microns is None
    raster._slide.properties = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
    assert raster.microns == (0.25, 0.25)


def test_folds_of_one_class_are_refused(command, tmp_path):
    one = table_of(tmp_path, [f"s{k}.tif,a,p{k}" for k in range(6)], "slide,label,patient")
    refused(train(command, one, tmp_path, "--fold", 0), "label 'a'")
    rare = table_of(tmp_path, [f"s{k}.tif,{'ab'[k == 0]},p{k}" for k in range(6)], "slide,label,patient")
    refused(train(command, rare, tmp_path, "--folds", 3, "--fold", 0), "fold", "fewer folds")


def test_a_full_disk_is_one_line_and_leaves_nothing(command, slide, tmp_path, monkeypatch):
    from multiway_vision_language.longvit import batches

    def full(stream, _pixels):
        stream.write(b"begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    copies = [tmp_path / f"{k}.tif" for k in range(4)]
    for copy in copies:
        copy.write_bytes(slide.read_bytes())
    splits = ("train", "train", "test", "test")
    rows = [f"{copy},{'ab'[k % 2]},p{k},{splits[k]}" for k, copy in enumerate(copies)]
    monkeypatch.setattr(batches.np, "save", full)
    refused(train(command, table_of(tmp_path, rows), tmp_path), "no space left on device")
    assert not list((tmp_path / "run").rglob("*.npy"))
    assert not list((tmp_path / "run" / "slides").iterdir())


@pytest.mark.parametrize("roi", ["1,2,3", "a,b,c,d", "900,900,200,200", "-1,0,5,5", "0,0,0,0"])
def test_a_region_outside_of_the_slide_is_refused(command, slide, tmp_path, roi):
    refused(command("thumbnail", slide, "-o", tmp_path / "a.png", f"--roi={roi}"), "region")


def test_a_damaged_tile_is_one_line(command, slide, tmp_path):
    data = bytearray(slide.read_bytes())
    data[2000:60_000] = b"\0" * 58_000
    broken = tmp_path / "damaged.tif"
    broken.write_bytes(data)
    refused(command("thumbnail", broken, "-o", tmp_path / "a.png", "--size", 1024), "damaged.tif", "damaged")


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_that_share_a_slide_give_what_one_gives(slide, model, processes):
    command = ["-m", "multiway_pathology", "classify", str(slide), "--model", str(model), "--json"]
    command += ["--size", "256", "--device", "cpu"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    found = []
    for start in ([], launch):
        done = subprocess.run(
            [sys.executable, *start, *command],
            capture_output=True,
            text=True,
            timeout=280,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        found.append(json.loads(done.stdout))
    assert found[1]["label"] == found[0]["label"]
    assert found[1]["probabilities"] == pytest.approx(found[0]["probabilities"], abs=1e-5)


def test_the_viewer_sends_tiles_and_the_result(slide, model):
    from fastapi.testclient import TestClient
    from multiway_pathology.viewer import build_viewer
    from multiway_vision_language.longvit.pipeline import LongVitPipeline

    client = TestClient(build_viewer(open_slide(slide), LongVitPipeline.from_pretrained(str(model))))
    assert "For research only" in client.get("/").text
    tile = Image.open(io.BytesIO(client.get("/tile/0/3/3").content))
    assert tile.size == (256, 256)
    assert Image.open(io.BytesIO(client.get("/tile/3/0/0").content)).size == (128, 128)
    for outside in ("/tile/0/4/0", "/tile/99/0/0", "/tile/-1/0/0", "/heat.png"):
        assert client.get(outside).status_code == 404
    result = client.post("/result").json()
    assert result["label"] in result["probabilities"]
    assert Image.open(io.BytesIO(client.get("/heat.png").content)).mode == "RGBA"


def test_the_server_takes_a_slide(slide, model):
    from multiway_pathology.server import classify_slide, heatmap_of_slide
    from multiway_vision_language.longvit.pipeline import LongVitPipeline

    pipeline = LongVitPipeline.from_pretrained(str(model))
    assert classify_slide(pipeline, slide, roi="0,0,512,512")["roi"] == [0, 0, 512, 512]
    assert heatmap_of_slide(pipeline, slide).data.startswith(b"\x89PNG")


def test_folds_are_trained_and_evaluated(command, model, tmp_path):
    """Four patients with two slides each, two folds, by the command as a user types it."""
    rows = []
    for number in range(8):
        write_example(tmp_path / f"{number}.tif", 512, number)
        rows.append(f"{number}.tif,{'ab'[number % 2]},p{number}")
    table = table_of(tmp_path, rows, "slide,label,patient")
    options = ("--folds", 2, "--epochs", 1, "--batch-size", 2, "--init-from", model)
    assert train(command, table, tmp_path, *options)[0] == 0
    assert {path.parent.name for path in (tmp_path / "run").glob("fold-*/held_out.json")} == {
        "fold-0",
        "fold-1",
    }
    code, out, _ = command("evaluate", tmp_path / "run", "--json")
    found = json.loads(out)
    assert (code, found["folds"]) == (0, 2)
    assert 0 <= found["auc_last"]["mean"] <= 1
    own = command("evaluate", table, "--model", tmp_path / "run" / "fold-0" / "model", "--json")
    assert set(json.loads(own[1])) >= {"auc", "accuracy", "calibration_error", "brier"}
