"""Checkpoints: our folders, and the files that the code of GLORY and of GLoCIM writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.checkpoint import on_meta
from multiway_core.errors import CheckpointError, ConfigError
from multiway_recsys.glocim import checkpoint
from multiway_recsys.glocim.config import PRESETS
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.glocim.scoring import score_behaviors

from packages.recsys.tests.glocim_world import World, make_world, new_model, tiny

BLOCK = (
    "module_1.W_Q",
    "module_1.W_K",
    "module_1.W_V",
    "module_2",
    "module_4.att_fc1",
    "module_4.att_fc2",
    "module_5",
)
# Names in a state dictionary of the published code; `.weight` and `.bias` each, but no bias in W_K.
SHARED = (
    *(f"local_entity_encoder.module_1.atte.{name}" for name in (*BLOCK, "module_6")),
    *(f"global_entity_encoder.module_1.atte.{name}" for name in BLOCK),
    *(f"click_encoder.atte.module_1.{name}" for name in ("att_fc1", "att_fc2")),
    *(f"user_encoder.atte.module_0.{name}" for name in ("W_Q", "W_K", "W_V")),
    *(f"user_encoder.atte.module_1.{name}" for name in ("att_fc1", "att_fc2")),
    *(f"candidate_encoder.atte.module_{name}" for name in ("1.att_fc1", "1.att_fc2", "2")),
)
GLORY = (*(f"local_news_encoder.attention.{name}" for name in BLOCK), *SHARED)
GLOCIM = (
    *(f"local_news_encoder.attention.{name}" for name in BLOCK),
    *(f"local_news_encoder.attetio.{name}" for name in BLOCK),
    "local_news_encoder.last_encoder",
    *(f"global_news_long_encoder.attt.module_1.{name}" for name in ("W_Q", "W_K", "W_V")),
    *(f"global_news_long_encoder.attt.module_{name}" for name in ("4", "6.att_fc1", "6.att_fc2", "7")),
    "feature_gate.f_dense",
    "feature_gate.g_dense",
    *SHARED,
)


def published_names(linears: tuple[str, ...], graph: str) -> set[str]:
    names = {
        f"{name}.{kind}"
        for name in linears
        for kind in ("weight", "bias")
        if (name[-3:], kind) != ("W_K", "bias")
    }
    gru = {f"{graph}.module_0.rnn.{kind}_{side}" for kind in ("weight", "bias") for side in ("ih", "hh")}
    tables = {"entity_embedding_layer", "local_entity_encoder.module_0", "global_entity_encoder.module_0"}
    return (
        names
        | gru
        | {f"{table}.weight" for table in tables}
        | {f"{graph}.module_0.weight", "local_news_encoder.word_encoder.weight"}
    )


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_news=30, num_impressions=6)


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("glory", published_names(GLORY, "global_news_encoder")),
        ("glocim-released", published_names(GLOCIM, "global_news_short_encoder")),
    ],
)
def test_published_names_and_full_sizes(preset: str, names: set[str]) -> None:
    config = replace(PRESETS[preset], num_words=7, num_entities=8)
    with on_meta():
        state = checkpoint.published_state(Glocim(config))
    assert set(state) == names
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes["user_encoder.atte.module_0.W_V.weight"] == (400, 400)
    assert shapes["local_entity_encoder.module_1.atte.module_1.W_Q.weight"] == (100, 100)
    assert shapes["global_entity_encoder.module_1.atte.module_1.W_Q.weight"] == (400, 100)
    if preset == "glory":
        assert shapes["local_news_encoder.attention.module_1.W_Q.weight"] == (400, 300)
    else:
        assert shapes["local_news_encoder.attention.module_1.W_Q.weight"] == (1000, 1000)
        assert shapes["local_news_encoder.last_encoder.weight"] == (400, 1000)


def small_published(preset: str, world: World) -> Glocim:
    config = tiny(preset, world.features, num_heads=20, head_dim=1, attention_hidden_size=5, entity_dim=4)
    return new_model(replace(config, title_length=30, history_length=50))


@pytest.mark.parametrize("preset", ["glory", "glocim-intended"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_file_round_trip(world: World, tmp_path: Path, preset: str, prefix: str) -> None:
    model = small_published(preset, world)
    state = {prefix + name: tensor for name, tensor in checkpoint.published_state(model).items()}
    path = tmp_path / f"{preset}_MINDsmall_default_auc0.67.pth"
    torch.save({"model_state_dict": state, "optimizer_state_dict": None}, path)
    loaded = checkpoint.load_published(path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    behaviors = world.behaviors.take(np.arange(1, 2))
    features = world.features
    expected = score_behaviors(model, features, behaviors)
    np.testing.assert_allclose(score_behaviors(loaded, features, behaviors), expected, atol=1e-5)
    checkpoint.save_published(loaded, tmp_path / "again.pth")
    again = checkpoint.load_published(tmp_path / "again.pth")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_names_of_glocim_simple_are_read(world: World, tmp_path: Path) -> None:
    model = small_published("glocim-intended", world)
    renamed = {
        "attt.module_1.": "mha.",
        "attt.module_4.": "ln_after_flat.",
        "attt.module_6.": "pool.",
        "attt.module_7.": "ln_out.",
    }
    state = {}
    for name, tensor in checkpoint.published_state(model).items():
        for theirs, simple in renamed.items():
            name = name.replace(f"global_news_long_encoder.{theirs}", f"global_news_long_encoder.{simple}")
        state[name] = tensor
    torch.save({"model_state_dict": state}, tmp_path / "simple.pth")
    loaded = checkpoint.load_published(tmp_path / "simple.pth")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_file_that_does_not_fit_is_told_from_one_that_does(world: World, tmp_path: Path) -> None:
    state = checkpoint.published_state(small_published("glory", world))
    path = tmp_path / "run.pth"

    def saved(changed: dict[str, torch.Tensor]) -> Path:
        torch.save({"model_state_dict": changed}, path)
        return path

    without = {
        name: tensor for name, tensor in state.items() if name != "click_encoder.atte.module_1.att_fc1.bias"
    }
    with pytest.raises(CheckpointError, match=r"1 missing \(click_encoder.pooling.hidden.bias\)"):
        checkpoint.load_published(saved(without))
    with pytest.raises(CheckpointError, match=r"1 unexpected \(extra.weight\)"):
        checkpoint.load_published(saved({**state, "extra.weight": torch.zeros(2)}))
    wrong = {**state, "candidate_encoder.atte.module_2.bias": torch.zeros(7)}
    with pytest.raises(
        CheckpointError, match=r"1 mis-shaped \(candidate_encoder.projection.bias: file has \[7\]"
    ):
        checkpoint.load_published(saved(wrong))
    with pytest.raises(CheckpointError, match="neither a GLORY nor a GLoCIM checkpoint"):
        checkpoint.load_published(saved({"weight": torch.zeros(2)}))


def test_only_published_models_have_published_names(world: World) -> None:
    with pytest.raises(CheckpointError, match="only the presets"):
        checkpoint.published_state(new_model(tiny("glocim", world.features)))


def test_our_folder_round_trip(world: World, tmp_path: Path) -> None:
    model = new_model(tiny("glocim-small", world.features, popularity=True))
    checkpoint.save(model, tmp_path / "model")
    loaded = checkpoint.load(tmp_path / "model")
    assert loaded.config == model.config
    assert not loaded.training
    expected = score_behaviors(model, world.features, world.behaviors)
    np.testing.assert_allclose(score_behaviors(loaded, world.features, world.behaviors), expected, atol=1e-5)
    (tmp_path / "model" / "config.json").write_text('{"chain": "endless"}', encoding="utf-8")
    with pytest.raises(ConfigError, match="chain: expected one of"):
        checkpoint.load(tmp_path / "model")
