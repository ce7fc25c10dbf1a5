"""A tiny simulated portal with a network of a few steps, and a way to call the command inside this process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from multiway_core import hub


@dataclass(frozen=True)
class World:
    """A portal's folder (train, dev, test, truth) and a model that was trained on it for some steps."""

    portal: Path
    model: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    from multiway_core import training
    from multiway_core.training import TrainOptions
    from multiway_recsys.data.mind import MindData
    from multiway_recsys.glocim.config import PRESETS
    from multiway_recsys.recipe import Recipe
    from multiway_recsys.serving.folder import About
    from multiway_recsys.simulator import PortalConfig, generated_texts, simulate, write_portal

    folder = tmp_path_factory.mktemp("world")
    portal = simulate(PortalConfig(num_users=150, communities=4, seed=3), generated_texts(900, seed=1))
    write_portal(folder / "portal", portal)
    model = training.run(
        Recipe(
            replace(
                PRESETS["glocim-small"], num_heads=2, head_dim=8, attention_hidden_size=16, category_dim=8
            ),
            epochs=1,
            batch_size=64,
            evaluations=1,
            log=MindData(portal.news, portal.splits["train"]),
            latest=MindData(portal.news, portal.splits["test"]),
            about=About(simulated=True, source="tiny", max_age_days=6.0),
        ),
        TrainOptions(folder / "run"),
    ).folder
    return World(folder / "portal", model)


@pytest.fixture(scope="session")
def reader(world):
    """The id of a reader with a long history."""
    import numpy as np
    from multiway_recsys.serving.folder import load

    readers = load(world.model).readers
    return readers.ids[int(np.argmax(readers.histories.lengths))]


@pytest.fixture
def needs_model():
    """Skip while the repository does not hold the bundled model."""
    folder = hub.bundled().get("news-portal")
    if folder is None or not (folder / "config.json").is_file():
        pytest.skip("bundled:news-portal is not there")
    return folder


@pytest.fixture
def call(call_app):
    """Run ``multiway-news-recommendation`` in this process: exit code, standard output, standard error."""
    from multiway_news_recommendation.cli import cli

    return call_app(cli, "multiway-news-recommendation")
