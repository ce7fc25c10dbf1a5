"""A tiny Kosmos-2 with random weights, saved as the published one is, and pictures to show it."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from multiway_vision_language.kosmos2 import checkpoint
from multiway_vision_language.kosmos2.model import Kosmos2
from PIL import Image

tiny = importlib.import_module("packages.vision-language.tests.tiny_kosmos2")


def save_tiny_model(folder, **changes):
    """A model folder; ``changes`` are of the configuration."""
    folder.mkdir()
    torch.manual_seed(0)
    model = Kosmos2(tiny.tiny_config(tiny.train_vocabulary(folder), **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    checkpoint.save(model, folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a model that was not taught absence."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def absence_model(tmp_path_factory):
    """The folder of one whose configuration says that it was."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "absence", trained_absence=True)


def picture(width=80, height=60, seed=0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@pytest.fixture
def photo(tmp_path):
    """A picture of 80 x 60 pixels."""
    path = tmp_path / "photo.png"
    picture().save(path)
    return path


@pytest.fixture(name="picture")
def picture_fixture():
    """The function ``picture(width=80, height=60, seed=0)``."""
    return picture


@pytest.fixture
def call(call_app):
    """Run ``multiway-grounding`` with arguments in this process: exit code, standard output, standard error."""
    from multiway_grounding.cli import cli

    return call_app(cli, "multiway-grounding")
