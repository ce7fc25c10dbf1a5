"""The models: every preset learns and scores, parts do what they say, serving equals training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_core import config as json_config
from multiway_core.checkpoint import on_meta
from multiway_core.errors import ConfigError, InputError
from multiway_recsys.data.tables import Behaviors, Ragged
from multiway_recsys.glocim.attention import AdditivePooling, SelfAttention, masked_softmax
from multiway_recsys.glocim.batch import BatchMaker
from multiway_recsys.glocim.batches import TrainingBatches
from multiway_recsys.glocim.config import PRESETS, GlocimConfig
from multiway_recsys.glocim.features import first_values, last_values
from multiway_recsys.glocim.gate import FeatureGate
from multiway_recsys.glocim.local_news_encoder import ReleasedCategory
from multiway_recsys.glocim.model import Glocim
from multiway_recsys.glocim.objective import negative_sampling, negative_sampling_loss
from multiway_recsys.glocim.scoring import score_behaviors, user_vectors
from multiway_recsys.glocim.short_sequence_attention import short_sequence_attention
from multiway_recsys.glocim.sparse_product import edge_list_product, sparse_product
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.serving.trace import trace

from packages.recsys.tests.glocim_world import NUM_USERS, World, make_world, new_model, tiny


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_all_of_its_tensors(world: World, preset: str) -> None:
    config = tiny(preset, world.features)
    model = new_model(config)  # without dropout, so that the loss of one batch falls steadily
    batch = TrainingBatches(world.features, world.behaviors, config, seed=0, batch_size=len(world.behaviors))(
        0, 0, 1
    )
    losses = []
    for _ in range(12):
        model.zero_grad()
        loss = negative_sampling(model, batch)
        loss.total.backward()
        without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert without in ([], ["cold_user"]), without
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.02 * parameter.grad
        losses.append(loss.total.item() / loss.weight)
    assert losses[-1] < losses[0] - 0.01, losses


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_scores_in_bfloat16(world: World, preset: str) -> None:
    config = tiny(preset, world.features, graph_batch="full", popularity=True)
    exact = score_behaviors(new_model(config), world.features, world.behaviors)
    model = new_model(config).to(torch.bfloat16)
    scores = score_behaviors(model, world.features, world.behaviors)
    assert scores.dtype == np.float32
    error = np.abs(scores - exact)
    assert 0 < error.max() < 0.1 * np.abs(exact).max() + 0.05
    if model.config.graph_batch == "full" and not preset.startswith("lstur"):
        encoded = model.train().encode_news(world.features)
        assert model.training  # as it was before
        model.eval()
        assert encoded.candidates_NE.dtype == torch.bfloat16
        assert trace(model, encoded, world.features, np.array([3, 5])).user_d.dtype == np.float32


def test_parameters_of_glory_are_those_of_the_published_code() -> None:
    config = replace(PRESETS["glory"], num_words=3, num_entities=3)
    with on_meta():
        assert Glocim(config).parameter_count() == 3_061_806


@pytest.mark.parametrize("preset", ["nrms-small", "lstur", "naml", "glory-small", "glocim-small", "glocim"])
def test_stored_news_give_the_scores_of_a_forward_pass(world: World, preset: str) -> None:
    config = tiny(preset, world.features, graph_batch="full", popularity=True)
    model = new_model(config)
    scores = score_behaviors(model, world.features, world.behaviors, batch_size=7)
    make = BatchMaker(world.features, config)
    behaviors = world.behaviors
    for row in range(len(behaviors)):
        history = last_values(behaviors.histories.values, behaviors.histories.offsets, np.array([row]), 8)
        batch = make(
            history,
            behaviors.candidates[row][None],
            users_B=behaviors.users[[row]],
            times_B=behaviors.times[[row]],
        )
        with torch.no_grad():
            expected = model(batch)[0].numpy()
        start = behaviors.candidates.offsets[row]
        np.testing.assert_allclose(scores[start : start + len(expected)], expected, atol=2e-5)


def test_readers_apart_score_alike_one_by_one_and_together(world: World) -> None:
    config = tiny("glory", world.features)
    model = new_model(config)
    together = score_behaviors(model, world.features, world.behaviors, batch_size=30)
    alone = score_behaviors(model, world.features, world.behaviors, batch_size=1)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    union = replace(config, graph_batch="union")
    other = Glocim(union)
    other.load_state_dict(model.state_dict())
    assert np.abs(score_behaviors(other, world.features, world.behaviors) - together).max() > 1e-4


def test_padding_does_not_matter(world: World) -> None:
    for preset in ("nrms", "naml", "lstur", "glory", "glocim"):
        config = tiny(preset, world.features, graph_batch="full")
        model = new_model(config)
        make = BatchMaker(world.features, config)
        history = np.array([[7, 3, 7]])
        short = make(history, np.array([[4, 5]]))
        padded = make(np.concatenate([np.zeros((1, 4), int), history], 1), np.array([[4, 5]]))
        with torch.no_grad():
            torch.testing.assert_close(model(short), model(padded), atol=1e-5, rtol=0)


def test_a_reader_without_history_gets_the_learnt_vector(world: World) -> None:
    config = tiny("glocim-small", world.features)
    model = new_model(config)
    encoded = model.encode_news(world.features)
    histories = Ragged.from_rows([[], [0, 0], [5]])
    users = user_vectors(model, encoded, histories)
    assert model.cold_user is not None
    torch.testing.assert_close(users[0], model.cold_user.detach())
    torch.testing.assert_close(users[1], model.cold_user.detach())  # only unknown news
    assert not torch.allclose(users[2], model.cold_user)


def test_the_order_of_a_chain_counts_and_a_news_without_chain_keeps_its_neighbours(world: World) -> None:
    config = tiny("glocim-small", world.features)
    model = new_model(config)
    features = world.features
    assert features.chains is not None
    turned = features.chains.copy()
    filled = (turned[:, 0] > 0).sum(axis=1)
    news = int(np.flatnonzero(filled >= 4)[0])
    turned[news, 0, :2] = turned[news, 0, 1::-1]
    history = Ragged.from_rows([[news]])
    before = user_vectors(model, model.encode_news(features), history)
    after = user_vectors(model, model.encode_news(replace(features, chains=turned)), history)
    assert (before - after).abs().max() > 1e-4
    chainless = len(features) - 1
    clicked = model.encode_news(features).clicked
    clicks, mask = torch.tensor([[chainless, news]]), torch.ones(1, 2, dtype=torch.bool)
    views = model.views(clicked, clicks, mask)
    assert clicked.neighbour_RE is not None
    torch.testing.assert_close(views[1][0, 0], clicked.neighbour_RE[chainless])
    assert not torch.allclose(views[1][0, 1], clicked.neighbour_RE[news])


@pytest.mark.parametrize(
    "changes",
    [
        {"chain": "none"},
        {"neighbour": "none"},
        {"category": "enhanced"},
        {"gate": "sum"},
        {"gate": "none"},
        {"chain_user_level": False},
        {"chains_per_news": 1},
        {"edge_weight": "one"},
        {"residual": False},
        {"place_scores": False},
        {"neighbour": "none", "chain": "none"},
    ],
)
def test_ablations_are_models_of_their_own(world: World, changes: dict[str, object]) -> None:
    base = new_model(tiny("glocim-small", world.features))
    config = tiny("glocim-small", world.features, **changes)
    model = new_model(config)
    own = model.state_dict()
    shared = {
        name: tensor
        for name, tensor in base.state_dict().items()
        if name in own and own[name].shape == tensor.shape
    }
    model.load_state_dict({**own, **shared})
    scores = score_behaviors(model, world.features, world.behaviors)
    assert np.isfinite(scores).all()
    assert np.abs(scores - score_behaviors(base, world.features, world.behaviors)).max() > 1e-4


def test_no_gradient_through_the_chain_when_it_is_switched_off(world: World) -> None:
    gradients = []
    for through in (True, False):
        config = tiny("glocim-small", world.features, chain_gradient=through)
        model = new_model(config)
        batch = BatchMaker(world.features, config)(np.array([[1, 2]]), np.array([[3, 4]]))
        negative_sampling_loss(model(batch)).backward()
        assert model.local_news_encoder.vector is not None
        gradients.append(model.local_news_encoder.vector.projection.weight.grad)
    assert not torch.allclose(gradients[0], gradients[1])


def test_the_released_category_encoder_is_attention_over_one_token() -> None:
    config = GlocimConfig(category="released", num_words=9, word_dim=6, num_heads=2, head_dim=4)
    encoder = ReleasedCategory(config).eval()
    x_N1E = torch.randn(3, 1, 20)
    attention = SelfAttention(20, ReleasedCategory.heads, ReleasedCategory.head_dim)
    attention.value.load_state_dict(encoder.value.state_dict())
    tokens = encoder.attention_norm(attention(x_N1E))
    expected = encoder.output(encoder.norm(AdditivePooling(1000, 5)(tokens)))
    found = encoder.output(encoder.norm(encoder.attention_norm(encoder.value(x_N1E[:, 0]))))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_masked_softmax_of_nothing_is_zero_with_finite_gradients() -> None:
    scores = torch.tensor([[5.0, 200.0], [1.0, 2.0]], requires_grad=True)
    weights = masked_softmax(scores, torch.tensor([[False, False], [True, False]]))
    assert weights.tolist() == [[0, 0], [1, 0]]
    weights.sum().backward()
    assert torch.isfinite(scores.grad).all()


def test_short_sequence_attention_is_plain_attention() -> None:
    attention = SelfAttention(8, num_heads=2, head_dim=4)
    parts = [torch.randn(5, 8, requires_grad=True) for _ in range(9)]
    stacked = [torch.stack(parts[start : start + 3], dim=1) for start in (0, 3, 6)]
    expected = attention.mix(*stacked)
    found = short_sequence_attention(parts[:3], parts[3:6], parts[6:], 2)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(5, 3, 8)
    of_found = torch.autograd.grad((found * weights).sum(), parts)
    torch.testing.assert_close(of_found, torch.autograd.grad((expected * weights).sum(), parts))


def test_gate_mixes_between_its_inputs() -> None:
    gate = FeatureGate(4)
    neighbour, chain = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    joined = torch.cat([neighbour, chain], -1)
    share = torch.sigmoid(gate.gate(joined))
    expected = share * neighbour + (1 - share) * torch.tanh(gate.fused(joined))
    torch.testing.assert_close(gate(neighbour, chain), expected)
    none = gate(neighbour, chain, torch.zeros(2, 3, dtype=torch.bool))
    torch.testing.assert_close(none, neighbour)


@pytest.mark.parametrize("product", [sparse_product, edge_list_product])
def test_sparse_product_and_its_gradient(product: Callable[..., torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    indptr = torch.tensor([0, 2, 2, 5])
    indices, weights = torch.tensor([1, 3, 0, 0, 2]), torch.tensor([1.0, 2, 3, 4, 5])
    dense = torch.tensor([[0.0, 1, 0, 2], [0, 0, 0, 0], [7, 0, 5, 0]])
    x = torch.randn(4, 3, generator=generator, requires_grad=True)
    found = product(indptr, indices, weights, x)
    torch.testing.assert_close(found, dense @ x)
    found.sum().backward()
    torch.testing.assert_close(x.grad, (dense.T @ torch.ones(3, 3)))


def test_statistics_know_only_what_came_before() -> None:
    hour = 3600
    behaviors = Behaviors(
        impression_ids=("1", "2", "3"),
        users=np.zeros(3, np.int32),
        user_ids=("U",),
        times=np.array([100 * hour, 110 * hour, 130 * hour]),
        histories=Ragged.from_rows([[], [], []]),
        candidates=Ragged.from_rows([[1, 2], [1], [1, 2]]),
        labels=np.array([1, 0, 1, 0, 1], np.int8),
    )
    known = ClickStatistics.build(behaviors, 4)
    at = known.at(np.array([1, 1, 1, 2, 3]), np.array([100, 111, 131, 131, 131]) * hour)
    clicks_today, shows_today, clicks, age, is_known = np.expm1(at[:, :4]).T.tolist() + [at[:, 4].tolist()]
    assert np.round(clicks_today).tolist() == [0, 2, 1, 1, 0]
    assert np.round(shows_today).tolist() == [0, 2, 2, 1, 0]
    assert np.round(clicks).tolist() == [0, 2, 2, 1, 0]
    assert np.round(age).tolist() == [0, 11, 31, 31, 0]
    assert is_known == [1, 1, 1, 1, 0]


def test_ragged_rows_are_cut_and_padded() -> None:
    rows = Ragged.from_rows([[1, 2, 3], [], [4]])
    assert first_values(rows.values, rows.offsets, 2).tolist() == [[1, 2], [0, 0], [4, 0]]
    assert last_values(rows.values, rows.offsets, np.array([0, 2]), 2).tolist() == [[2, 3], [0, 4]]


def test_configs_are_json_and_say_what_cannot_be(world: World) -> None:
    for config in PRESETS.values():
        assert json_config.from_dict(GlocimConfig, json_config.to_dict(config)) == config
    with pytest.raises(ConfigError, match=r"dropout must be at least 0 and below 1, not 1\.5"):
        json_config.from_dict(GlocimConfig, {"dropout": 1.5})
    with pytest.raises(ConfigError, match='needs text "words"'):
        json_config.from_dict(GlocimConfig, {"text": "vectors", "category": "released"})


@pytest.mark.parametrize(
    ("preset", "lacking"),
    [
        ("nrms", "tokens"),
        ("naml", "abstract_tokens"),
        ("nrms-small", "text_vectors"),
        ("glory", "entities"),
        ("glory-small", "graph_indptr"),
        ("glocim-small", "chains"),
    ],
)
def test_lacking_features_are_named(world: World, preset: str, lacking: str) -> None:
    config = tiny(preset, world.features)
    features = replace(world.features, **{lacking: None})
    with pytest.raises(InputError, match=f"features: {lacking} is missing, and .* needs it"):
        BatchMaker(features, config)
    with pytest.raises(InputError, match=f"features: {lacking} is missing, and .* needs it"):
        new_model(config).encode_news(features)


def test_features_must_speak_of_the_same_news(world: World) -> None:
    assert world.features.chains is not None
    with pytest.raises(InputError, match="chains has 59 rows, but there are 60 news"):
        replace(world.features, chains=world.features.chains[1:])


def test_lstur_knows_readers_and_takes_strangers_for_the_unknown_one(world: World) -> None:
    for kind in ("lstur-ini", "lstur-con"):
        config = tiny("lstur-small", world.features, user=kind)
        model = new_model(config)
        encoded = model.encode_news(world.features)
        histories = Ragged.from_rows([[3, 4]] * 3)
        known, stranger, unknown = user_vectors(
            model, encoded, histories, users=np.array([2, NUM_USERS + 5, 0])
        )
        torch.testing.assert_close(stranger, unknown)
        assert not torch.allclose(known, unknown)


def test_the_loss_counts_the_candidates_that_the_mask_holds_and_tells_who_stands_first():
    from multiway_recsys.glocim.objective import negative_sampling, negative_sampling_loss

    scores_BC = torch.tensor([[1.0, 3.0, 0.0], [2.0, 1.0, 5.0]])
    whole = -torch.log_softmax(scores_BC, dim=1)[:, 0].sum()
    torch.testing.assert_close(negative_sampling_loss(scores_BC), whole)
    mask_BC = torch.tensor([[True, False, True], [True, True, False]])
    kept = -torch.log_softmax(scores_BC[0, [0, 2]], 0)[0] - torch.log_softmax(scores_BC[1, :2], 0)[0]
    torch.testing.assert_close(negative_sampling_loss(scores_BC, mask_BC), kept)
    loss = negative_sampling(
        lambda batch: scores_BC[[0, 1, 1]] * torch.tensor([1.0, 1.0, -1.0])[:, None], range(3)
    )
    assert (loss.weight, loss.samples) == (3, 3)
    assert float(loss.metrics["clicked_first"]) == 0.0
    loss = negative_sampling(lambda batch: scores_BC.flip(1)[[0, 1, 1, 1]], range(4))
    assert float(loss.metrics["clicked_first"]) == 0.75
