from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model folder that the smoke recipe wrote in a few steps, with the bundled model's prompts."""
    from multiway_core.training import TrainOptions, run
    from multiway_text.s2s_ft.recipe import RECIPES

    folder = tmp_path_factory.mktemp("summarization")
    recipe = dataclasses.replace(RECIPES["smoke"], prompts=RECIPES["title"].prompts)
    return run(recipe, TrainOptions(folder, steps=2)).folder


@pytest.fixture
def command(capfd):
    """Runs the command line in this process: (exit code, standard output, standard error)."""
    from multiway_core.app.command import run
    from multiway_summarization.cli import cli

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(cli, [str(argument) for argument in arguments], name="multiway-summarization")
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call
