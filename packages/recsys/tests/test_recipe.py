"""The recipe on a small simulated portal: it learns, resumes exactly, stops early, and its folder serves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from multiway_core import training
from multiway_core.errors import CheckpointError, ConfigError, InputError
from multiway_core.training import TrainOptions, TrainReport
from multiway_recsys.data.mind import MindData
from multiway_recsys.feature_extraction import renumbered
from multiway_recsys.glocim.config import PRESETS
from multiway_recsys.glocim.scoring import score_behaviors
from multiway_recsys.metrics.ranking import evaluate_ranking
from multiway_recsys.recipe import RECIPES, Recipe
from multiway_recsys.serving import folder as model_folder
from multiway_recsys.serving.folder import About
from multiway_recsys.simulator import Portal, PortalConfig, generated_texts, simulate

TINY = replace(PRESETS["glocim-small"], num_heads=2, head_dim=8, attention_hidden_size=16, category_dim=4)
ABOUT = About(simulated=True, source="a test")
RUN = Recipe(TINY, epochs=3, batch_size=128, learning_rate=5e-3, evaluations=3, about=ABOUT)


def train(recipe: Recipe, output: Path, **options: Any) -> TrainReport:
    return training.run(recipe, TrainOptions(output, **options))


def scores(output: Path) -> dict[int, float]:
    found = json.loads((output / "held_out.json").read_text())
    return {int(step): numbers["AUC"] for step, numbers in found.items()}


@pytest.fixture(scope="module")
def portal() -> Portal:
    config = PortalConfig(
        num_users=200, communities=5, births=0.0, drift=0.0, loyalty=0.6, hard_negatives=0, seed=1
    )
    return simulate(config, generated_texts(1200, seed=0))


@pytest.fixture(scope="module")
def data(portal: Portal) -> MindData:
    return MindData(portal.news, portal.splits["train"], portal.entity_vectors)


@pytest.fixture(scope="module")
def trained(data: MindData, portal: Portal, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    latest = MindData(portal.news, portal.splits["test"])
    report = train(replace(RUN, log=data, latest=latest), output)
    assert report.finished
    return report.folder


def test_it_learns_what_held_out_and_later_readers_click(trained: Path, portal: Portal) -> None:
    assert max(scores(trained.parent).values()) > 0.6
    parts = model_folder.load(trained)
    test = portal.splits["test"]
    found = evaluate_ranking(score_behaviors(parts.model, parts.features, test), test).means()
    assert found["auc"] > 0.57


def test_the_folder_holds_the_latest_graph_and_readers_and_says_what_it_is(
    trained: Path, portal: Portal
) -> None:
    parts = model_folder.load(trained)
    test = portal.splits["test"]
    assert parts.about.simulated
    assert parts.about.source == "a test"
    assert parts.readers.ids == test.user_ids
    last = {int(user): row for row, user in enumerate(test.users)}
    user, row = next(iter(last.items()))
    history = test.histories[row]
    assert parts.features.chains is not None
    assert parts.graph.num_edges > 100
    assert history[1] in parts.graph.neighbours(int(history[0])) or history[0] == history[1]
    place = parts.readers.ids.index(test.user_ids[user])
    assert parts.readers.histories[place][: len(history)].tolist() == history.tolist()


def test_a_stopped_run_goes_on_exactly(data: MindData, trained: Path, portal: Portal, tmp_path: Path) -> None:
    recipe = replace(RUN, log=data, latest=MindData(portal.news, portal.splits["test"]))
    finished = [train(recipe, tmp_path, minutes=1e-9 if run < 2 else None).finished for run in range(3)]
    assert finished == [False, False, True]
    for name in ("model.safetensors", "features.safetensors", "config.json", "recommender.json"):
        assert (tmp_path / "model" / name).read_bytes() == (trained / name).read_bytes(), name
    assert scores(tmp_path) == scores(trained.parent)


def test_another_run_in_the_folder_is_refused(data: MindData, trained: Path) -> None:
    with pytest.raises(CheckpointError, match="learning_rate"):
        train(replace(RUN, log=data, learning_rate=1e-3), trained.parent)


def test_no_gain_ends_the_run(data: MindData, tmp_path: Path) -> None:
    # A reader without history would gain: the vector for them starts at zero, where the smallest step breaks ties.
    config = replace(TINY, chain="none", neighbour="none", cold_user=False)
    recipe = replace(RUN, model=config, log=data, learning_rate=1e-12, evaluations=12, patience=2)
    report = train(recipe, tmp_path)
    assert report.finished
    assert len(scores(tmp_path)) == 4  # that of the first weights, which nothing is exported of, and three


def test_fine_tuning_keeps_the_sizes_and_starts_from_the_weights(
    data: MindData, trained: Path, tmp_path: Path
) -> None:
    recipe = replace(RUN, model=PRESETS["nrms-small"], log=data, epochs=0.01, learning_rate=1e-12)
    tuned = model_folder.load(train(recipe, tmp_path, init_from=str(trained)).folder)
    first = model_folder.load(trained)
    assert tuned.model.config == first.model.config
    for name, tensor in first.model.state_dict().items():
        assert np.allclose(tuned.model.state_dict()[name], tensor, atol=1e-2), name


def test_smoke_needs_no_data(tmp_path: Path) -> None:
    report = train(RECIPES["smoke"], tmp_path, steps=3)
    assert report.finished
    about = model_folder.load(report.folder).about
    assert about.simulated
    assert 0 < report.held_out["AUC"] < 1


def test_wrong_arguments_are_one_line(data: MindData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown preset 'nrsm'"):
        training.choose(RECIPES, "nrsm")
    few = replace(data, behaviors=data.behaviors.take(np.arange(1)))
    with pytest.raises(InputError, match="too few"):
        train(replace(RUN, log=few), tmp_path)
    with pytest.raises(InputError, match="one MIND folder, and 0 were given"):
        train(RUN, tmp_path)
    with pytest.raises(ValueError, match="warmup must be at least 0"):
        replace(RUN, warmup=1.0)


def test_categories_are_numbered_as_the_network_knows_them(portal: Portal) -> None:
    news = portal.news
    known = replace(news, category_names=("", "travel", "sea"))
    again = renumbered(news, known)
    names = [news.category_names[number] for number in news.categories[1:200]]
    expected = [{"travel": 1, "sea": 2}.get(name, 0) for name in names]
    assert again.categories[1:200].tolist() == expected
