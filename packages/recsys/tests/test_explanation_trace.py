"""Following a reader through the network: the parts are the whole, and what is left out is really left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_recsys.data.tables import Ragged
from multiway_recsys.glocim.config import PRESETS
from multiway_recsys.glocim.features import Features
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.glocim.scoring import user_vectors
from multiway_recsys.graph.click_graph import ClickGraph
from multiway_recsys.serving.trace import trace

NEWS = 40


@pytest.fixture(scope="module")
def features():
    random = np.random.default_rng(0)
    graph = ClickGraph.build(Ragged.from_rows(random.integers(1, NEWS, (30, 6))), None, NEWS)
    chains = random.integers(0, NEWS, (NEWS, 2, 10)).astype(np.int32)
    chains[:, :, 6:] = 0
    chains[[0, 7, 8]] = 0
    return Features(
        categories=random.integers(1, 5, NEWS).astype(np.int32),
        subcategories=random.integers(1, 9, NEWS).astype(np.int32),
        num_categories=5,
        num_subcategories=9,
        text_vectors=random.standard_normal((NEWS, 12)).astype(np.float32),
        entities=random.integers(0, 6, (NEWS, 5)).astype(np.int32),
        entity_neighbours=random.integers(0, 6, (6, 10)).astype(np.int32),
        num_entities=6,
        graph_indptr=graph.indptr,
        graph_indices=graph.indices,
        graph_weights=graph.weights,
        chains=chains,
    )


def model_of(features, preset, **changes):
    torch.manual_seed(0)
    config = replace(
        PRESETS[preset], num_heads=2, head_dim=8, attention_hidden_size=8, category_dim=6, **changes
    )
    model = Glocim(config.fitted(features, num_users=3)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases that start at one and zero hide mistakes
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model, model.encode_news(features)


VARIANTS = [
    ("glocim-small", {}),
    ("glocim-small", {"gate": "sum"}),
    ("glocim-small", {"gate": "none"}),
    ("glocim-small", {"entities": True, "entity_dim": 8, "chains_per_news": 2}),
    ("glocim-small", {"neighbour": "none"}),
    ("glocim-small", {"chain_user_level": False}),
    ("glocim-intended-small", {}),
    ("glory-small", {}),
    ("nrms-small", {}),
    ("naml-small", {}),
    ("lstur-small", {}),
]


@pytest.mark.parametrize(("preset", "changes"), VARIANTS)
@pytest.mark.parametrize("chains", [True, False])
def test_parts_sum_to_the_vector_that_scoring_uses(features, preset, changes, chains):
    model, encoded = model_of(features, preset, **changes)
    history = np.array([3, 7, 12, 3, 20])
    found = trace(model, encoded, features, history, chains=chains)
    total = sum(part.sum(axis=0) for part in found.parts.values())
    np.testing.assert_allclose(total, found.user_d, atol=2e-5)
    if chains:
        wanted = user_vectors(model, encoded, Ragged.from_rows([history]))[0].numpy()
        np.testing.assert_allclose(found.user_d, wanted, atol=2e-5)
    else:
        np.testing.assert_allclose(found.user_d, found.without_chains_d, atol=1e-6)
    assert found.click_weights_M.sum() == pytest.approx(1, abs=1e-5)
    assert ((found.collaborative_M >= 0) & (found.collaborative_M <= 1 + 1e-5)).all()
    assert ((found.gate_M >= 0) & (found.gate_M <= 1)).all()
    assert found.chains_MKL.shape == found.chain_weights_MKL.shape


def test_a_click_left_out_is_a_history_without_it(features):
    model, encoded = model_of(features, "glocim-small")
    found = trace(model, encoded, features, np.array([3, 7, 12, 3, 20]))
    for place, rest in ((1, [3, 12, 3, 20]), (2, [3, 7, 3, 20]), (0, [7, 12, 20]), (3, [7, 12, 20])):
        wanted = user_vectors(model, encoded, Ragged.from_rows([rest]))[0].numpy()
        np.testing.assert_allclose(found.without_click_Md[place], wanted, atol=2e-5)


@pytest.mark.parametrize("preset", ["glocim-small", "glocim-intended-small"])
def test_a_chain_left_out_is_a_table_without_it(features, preset):
    model, encoded = model_of(features, preset)
    history = np.array([3, 7, 12])
    found = trace(model, encoded, features, history)
    for place, news in enumerate(history):
        chains = features.chains.copy()
        chains[news] = 0
        other = model.encode_news(replace(features, chains=chains))
        wanted = user_vectors(model, other, Ragged.from_rows([history]))[0].numpy()
        np.testing.assert_allclose(found.without_chain_Md[place], wanted, atol=2e-5)
    np.testing.assert_array_equal(found.without_chain_Md[1], found.user_d)  # news 7 has none
    bare = model.encode_news(replace(features, chains=np.zeros_like(features.chains)))
    wanted = user_vectors(model, bare, Ragged.from_rows([history]))[0].numpy()
    np.testing.assert_allclose(found.without_chains_d, wanted, atol=2e-5)


def test_where_there_is_no_chain_nothing_comes_from_one(features):
    model, encoded = model_of(features, "glocim-small")
    found = trace(model, encoded, features, np.array([7, 3]))
    assert found.gate_M[0] == 1
    assert found.gate_M[1] < 1
    assert np.abs(found.parts["chains"][1]).max() > 1e-3
    assert found.chains_MKL[0].sum() == 0
    walked = found.chains_MKL[1].any(axis=-1)
    np.testing.assert_allclose(found.chain_weights_MKL[1].sum(axis=-1), walked, atol=1e-5)


def test_one_click_and_more_than_the_network_looks_at(features):
    model, encoded = model_of(features, "glocim-small", history_length=4)
    one = trace(model, encoded, features, np.array([5]))
    assert one.click_weights_M.tolist() == pytest.approx([1.0])
    np.testing.assert_allclose(one.without_click_Md[0], model.cold_user.detach().numpy(), atol=1e-6)
    many = trace(model, encoded, features, np.arange(1, 11))
    assert many.history_M.tolist() == [7, 8, 9, 10]
