"""The network against other implementations: torch_geometric's gated graph layer, and GLORY and the released GLoCIM
written out in plain loops (`glocim_reference.py`). The official code itself was compared as the model card tells.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_recsys.data.tables import Ragged
from multiway_recsys.glocim import checkpoint
from multiway_recsys.glocim.batch import BatchMaker
from multiway_recsys.glocim.features import Features, last_values
from multiway_recsys.glocim.neighbour_interest import GatedGraphNetwork, Messages
from multiway_recsys.graph.click_graph import ClickGraph, top_neighbours

from packages.recsys.tests.glocim_reference import Reference
from packages.recsys.tests.glocim_world import World, make_world, new_model, tiny


@pytest.mark.peer
def test_gated_graph_network_is_that_of_torch_geometric() -> None:
    peer = pytest.importorskip("torch_geometric.nn").GatedGraphConv(8, 3, aggr="add")
    generator = torch.Generator().manual_seed(0)
    num_nodes = 12
    source, target = torch.randint(
        0, 9, (2, 40), generator=generator
    )  # nodes 9 to 11 are isolated, edges repeat
    order = torch.argsort(target, stable=True)
    indptr = torch.zeros(num_nodes + 1, dtype=torch.long)
    indptr[1:] = torch.bincount(target, minlength=num_nodes).cumsum(0)
    messages = Messages(indptr, source[order], torch.ones(40), (num_nodes,) * 4)
    ours = GatedGraphNetwork(8, 3)
    ours.load_state_dict(peer.state_dict())  # the names are the same
    x = torch.randn(num_nodes, 8, generator=generator)
    ours_x, peer_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = ours(ours_x, messages), peer(peer_x, torch.stack([source, target]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    weights = torch.randn(found.shape, generator=generator)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours_x.grad, peer_x.grad, atol=1e-4, rtol=0)
    for (name, mine), (_, theirs) in zip(ours.named_parameters(), peer.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=0, msg=name)


@pytest.fixture(scope="module")
def world() -> World:
    world = make_world(num_news=24, num_impressions=7, seed=4)
    return replace(world, features=replace(world.features, chains=released_chains(world.features)))


def released_chains(features: Features) -> np.ndarray:
    """The shape of the published code's chains: six copies of a neighbour and four zeros."""
    chains = np.zeros((len(features), 1, 10), np.int32)
    assert features.graph_indptr is not None
    assert features.graph_indices is not None
    for news in range(len(features)):
        senders = features.graph_indices[features.graph_indptr[news] : features.graph_indptr[news + 1]]
        if len(senders):
            chains[news, 0, :6] = senders[len(senders) // 2]
    return chains


@pytest.mark.parametrize("preset", ["glory", "glocim-released"])
def test_scores_are_those_of_the_formulas(world: World, preset: str) -> None:
    config = tiny(preset, world.features, history_length=6, hops=1, neighbours_per_hop=2)
    model = new_model(config)
    features, histories = world.features, world.behaviors.histories
    assert features.graph_indptr is not None
    assert features.graph_indices is not None
    graph = Ragged(features.graph_indices, features.graph_indptr)
    reference = Reference(
        checkpoint.published_state(model),
        features,
        [graph[news].tolist() for news in range(len(features))],
        heads=2,
        title_length=7,
        hops=1,
        per_hop=2,
    )
    rows = np.arange(1, 5)  # impression 0 has no history, of which the published code makes nothing sensible
    candidates_BC = np.random.default_rng(0).integers(1, len(features), (len(rows), 3))
    histories_BH = last_values(histories.values, histories.offsets, rows, 6)
    batch = BatchMaker(features, config)(histories_BH, candidates_BC)
    assert batch.messages is not None
    assert len(batch.messages.indices_X) > 5
    with torch.no_grad():
        found = model(batch)
    expected = [
        reference.scores(history[history > 0].tolist(), shown.tolist(), 6)
        for history, shown in zip(histories_BH, candidates_BC, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=1e-5)


def test_subgraphs_hold_what_message_passing_needs() -> None:
    """Nodes and edges around each reader are those of a search with sets, as far as three layers can see them."""
    features = make_world(num_news=60, seed=2).features
    assert features.graph_indptr is not None
    assert features.graph_indices is not None
    rng = np.random.default_rng(0)
    click_graph = ClickGraph.build(
        Ragged.from_rows([rng.integers(1, 60, 9) for _ in range(40)]), None, 60, direction="in"
    )
    features = replace(
        features,
        graph_indptr=np.asarray(click_graph.indptr, np.int64),
        graph_indices=np.asarray(click_graph.indices, np.int32),
        graph_weights=np.asarray(click_graph.weights, np.float32),
    )
    config = tiny("glory", features, neighbours_per_hop=2)
    histories = Ragged.from_rows([[3, 9, 3], [14], [9, 20, 31]])
    batch = BatchMaker(features, config)(
        last_values(histories.values, histories.offsets, np.arange(3), 8), np.ones((3, 1), np.int64)
    )
    table = top_neighbours(click_graph, 2)
    sources, targets, _ = (values.tolist() for values in click_graph.forward_edges())
    num_nodes, degrees = 0, []
    for row in range(len(histories)):
        nodes = set(histories[row].tolist())
        for _ in range(2):
            nodes |= {news for here in nodes for news in table[here].tolist() if news}
        num_nodes += len(nodes)
        inside = [
            target for source, target in zip(sources, targets, strict=True) if {source, target} <= nodes
        ]
        degrees += [inside.count(node) for node in nodes]
    assert batch.messages is not None
    assert batch.graph_nodes_G is not None
    # Everything that is chosen lies within two steps of a click, so three layers see all of it, and the padding row.
    assert batch.messages.levels[-1] == num_nodes + 1
    assert len(batch.messages.indices_X) == sum(degrees)
    assert sorted(batch.messages.indptr.diff().tolist()) == sorted([0, *degrees])
