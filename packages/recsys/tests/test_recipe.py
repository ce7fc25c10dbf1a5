"""The recipe on a small simulated portal: it learns, resumes exactly, stops early, and its folder serves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from multiway_core.errors import CheckpointError, InputError
from multiway_recsys.data.mind import MindData
from multiway_recsys.fitting import BEST, SELECTION, FitConfig
from multiway_recsys.glocim.config import PRESETS
from multiway_recsys.glocim.scoring import score_behaviors
from multiway_recsys.metrics.ranking import evaluate_ranking
from multiway_recsys.recipe import renumbered, train
from multiway_recsys.serving import folder as model_folder
from multiway_recsys.serving.folder import About
from multiway_recsys.simulator import Portal, PortalConfig, own_texts, simulate

TINY = replace(PRESETS["glocim-small"], num_heads=2, head_dim=8, attention_hidden_size=16, category_dim=4)
RUN = FitConfig(epochs=3, batch_size=128, learning_rate=5e-3, evaluations=3)


@pytest.fixture(scope="module")
def portal() -> Portal:
    config = PortalConfig(
        num_users=200, communities=5, births=0.0, drift=0.0, loyalty=0.6, hard_negatives=0, seed=1
    )
    return simulate(config, own_texts(1200, seed=0))


@pytest.fixture(scope="module")
def data(portal: Portal) -> MindData:
    return MindData(portal.news, portal.splits["train"], portal.entity_vectors)


@pytest.fixture(scope="module")
def trained(data: MindData, portal: Portal, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    latest = MindData(portal.news, portal.splits["test"])
    about = About(simulated=True, source="a test")
    return train(data, output, config=TINY, recipe=RUN, latest=latest, about=about)


def test_it_learns_what_held_out_and_later_readers_click(trained: Path, portal: Portal) -> None:
    judged = json.loads((trained.parent / SELECTION).read_text())
    assert judged["is_over"]
    assert max(judged["judged"].values()) > 0.6
    parts = model_folder.load(trained)
    test = portal.splits["test"]
    scores = evaluate_ranking(score_behaviors(parts.model, parts.features, test), test).means()
    assert scores["auc"] > 0.57


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
    latest = MindData(portal.news, portal.splits["test"])
    about = About(simulated=True, source="a test")
    runs = 0
    while runs == 0 or not json.loads((tmp_path / SELECTION).read_text())["is_over"]:
        train(
            data,
            tmp_path,
            config=TINY,
            recipe=RUN,
            latest=latest,
            about=about,
            minutes=1e-9 if runs < 2 else None,
        )
        runs += 1
    assert runs == 3
    for name in ("model.safetensors", "features.safetensors", "config.json", "recommender.json"):
        assert (tmp_path / "model" / name).read_bytes() == (trained / name).read_bytes(), name
    assert (tmp_path / BEST).read_bytes() == (trained.parent / BEST).read_bytes()


def test_another_run_in_the_folder_is_refused(data: MindData, trained: Path) -> None:
    with pytest.raises(CheckpointError, match=r"fit\.learning_rate"):
        train(data, trained.parent, config=TINY, recipe=replace(RUN, learning_rate=1e-3))


def test_no_gain_ends_the_run(data: MindData, tmp_path: Path) -> None:
    recipe = replace(RUN, learning_rate=1e-12, evaluations=12, patience=2)
    # A reader without history would gain: the vector for them starts at zero, where the smallest step breaks ties.
    config = replace(TINY, chain="none", neighbour="none", cold_user=False)
    train(data, tmp_path, config=config, recipe=recipe)
    state = json.loads((tmp_path / SELECTION).read_text())
    assert state["is_over"]
    assert len(state["judged"]) == 3


def test_fine_tuning_keeps_the_sizes_and_starts_from_the_weights(
    data: MindData, trained: Path, tmp_path: Path
) -> None:
    recipe = replace(RUN, epochs=0.01, learning_rate=1e-12)
    tuned = model_folder.load(train(data, tmp_path, recipe=recipe, init_from=trained))
    first = model_folder.load(trained)
    assert tuned.model.config == first.model.config
    for name, tensor in first.model.state_dict().items():
        assert np.allclose(tuned.model.state_dict()[name], tensor, atol=1e-2), name


def test_wrong_arguments_are_one_line(data: MindData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown preset 'nrsm'"):
        train(data, tmp_path, preset="nrsm")
    few = replace(data, behaviors=data.behaviors.take(np.arange(1)))
    with pytest.raises(InputError, match="too few"):
        train(few, tmp_path, config=TINY)


def test_categories_are_numbered_as_the_network_knows_them(portal: Portal) -> None:
    news = portal.news
    known = replace(news, category_names=("", "travel", "sea"))
    again = renumbered(news, known)
    names = [news.category_names[number] for number in news.categories[1:200]]
    expected = [{"travel": 1, "sea": 2}.get(name, 0) for name in names]
    assert again.categories[1:200].tolist() == expected
