"""``draw``: pictures of a trained LatentLM, from the recipe to the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core import training
from multiway_core.training import TrainOptions
from multiway_text.recipe import RECIPES
from PIL import Image
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def latent_lm(tmp_path_factory):
    """What the smoke recipe trains: class 0 is dark, class 1 light."""
    output = tmp_path_factory.mktemp("latent-lm")
    training.run(RECIPES["latent-lm-smoke"], TrainOptions(output))
    return output / "model"


def test_a_sheet_with_a_row_a_class(call, latent_lm, tmp_path) -> None:
    code, out, _ = call("draw", latent_lm, "-o", tmp_path / "sheet.png", "-n", "3", "--steps", "5")
    assert code == 0, out
    assert out == f"{tmp_path / 'sheet.png'}\n"
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 33 - 1, 3 * 33 - 1)  # 8 x 8 pixels, four times as large, and margins


def test_tensors_repeat_themselves_and_follow_the_class(call, latent_lm, tmp_path) -> None:
    def drawn(name: str, *options: str) -> dict[str, torch.Tensor]:
        path = tmp_path / f"{name}.safetensors"
        code, _, err = call("draw", latent_lm, "-o", path, "-n", "16", *options)
        assert code == 0, err
        return load_file(path)

    first, again, other = drawn("a"), drawn("b"), drawn("c", "--seed", "100")
    assert first["pixels"].shape == (32, 1, 8, 8)
    assert first["latents"].shape == (32, 4, 3)
    assert first["labels"].tolist() == [0] * 16 + [1] * 16
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["latents"], other["latents"])
    light = drawn("d", "--class", "1")
    torch.testing.assert_close(light["pixels"].shape, torch.Size([16, 1, 8, 8]))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-o", "x.jpg"), "ends in .png or .safetensors"),
        (("-o", "x.png", "--class", "7"), "text id 7"),
        (("-o", "x.png", "--steps", "0"), "steps must be at least 1"),
        (("-o", "x.png", "--sampler", "euler"), "sampler must be"),
        (("-o", "x.png", "--guidance", "nan"), "guidance must be"),
    ],
)
def test_bad_options(call, latent_lm, tmp_path, monkeypatch, options, told) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call("draw", latent_lm, *options)
    assert code == 2
    assert out == ""
    assert told in err
    assert not list(tmp_path.glob("x.*"))


def test_a_model_that_draws_nothing(call, folder, tmp_path) -> None:
    code, _, err = call("draw", folder, "-o", tmp_path / "x.png")
    assert code == 2
    assert len(err.splitlines()) == 1
