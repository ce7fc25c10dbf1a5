"""Subgraphs around histories against sets and dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_recsys.data.tables import Ragged
from multiway_recsys.graph import ClickGraph, top_neighbours
from multiway_recsys.graph.neighbours import history_subgraphs

NUM_NEWS = 120
LOG = Ragged.from_rows([np.random.default_rng(row).integers(1, NUM_NEWS - 5, 15) for row in range(40)])
HISTORIES = Ragged.from_rows([[3, 8, 3], [], [NUM_NEWS - 1], [0, 50, 51, 52], [8]])


def reached(table: np.ndarray, clicks: list[int], hops: int) -> set[int]:
    nodes, frontier = set(clicks), clicks
    for _ in range(hops):
        frontier = [news for here in frontier for news in table[here].tolist() if news]
        nodes.update(frontier)
    return nodes


@pytest.mark.parametrize("direction", ["in", "out", "both"])
@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize("hops", [0, 1, 2, 4])
def test_nodes_and_edges_are_those_of_sets(direction, union, hops) -> None:
    graph = ClickGraph.build(LOG, None, NUM_NEWS, direction=direction)
    made = history_subgraphs(graph, HISTORIES, hops=hops, neighbours=3, union=union)
    table = top_neighbours(graph, 3)
    sources, targets, weights = graph.forward_edges()
    forward = dict(zip(zip(sources.tolist(), targets.tolist(), strict=True), weights.tolist(), strict=True))
    rows = (
        [HISTORIES.values.tolist()] if union else [HISTORIES[row].tolist() for row in range(len(HISTORIES))]
    )
    for row, clicks in enumerate(rows):
        here = np.flatnonzero(made.rows == row)
        expected = reached(table, clicks, hops)
        assert made.nodes[here].tolist() == sorted(expected)
        chosen = np.isin(made.edge_targets, here)
        assert (np.isin(made.edge_sources, here) == chosen).all()
        edges = dict(
            zip(
                zip(
                    made.nodes[made.edge_sources[chosen]].tolist(),
                    made.nodes[made.edge_targets[chosen]].tolist(),
                    strict=True,
                ),
                made.edge_weights[chosen].tolist(),
                strict=True,
            )
        )
        assert edges == {pair: w for pair, w in forward.items() if set(pair) <= expected}
    assert made.nodes[made.clicks].tolist() == HISTORIES.values.tolist()
    assert (np.diff(made.edge_targets) >= 0).all()
    if not union:
        assert made.rows[made.clicks].tolist() == np.repeat(range(5), HISTORIES.lengths).tolist()


def test_a_cap_keeps_clicks_and_the_nearest() -> None:
    graph = ClickGraph.build(LOG, None, NUM_NEWS)
    table = top_neighbours(graph, 8)
    made = history_subgraphs(graph, HISTORIES, hops=3, max_nodes=6)
    whole = history_subgraphs(graph, HISTORIES, hops=3)
    assert np.bincount(whole.rows).max() > 50
    assert np.bincount(made.rows).max() == 6
    assert set(made.nodes[made.rows == 4].tolist()) == {8, *table[8][:5].tolist()}
    assert made.nodes[made.clicks].tolist() == HISTORIES.values.tolist()
    few = history_subgraphs(graph, HISTORIES, hops=3, max_nodes=1)
    assert few.nodes.tolist() == [3, 8, NUM_NEWS - 1, 0, 50, 51, 52, 8]


def test_nothing_and_bad_news() -> None:
    graph = ClickGraph.build(LOG, None, NUM_NEWS)
    empty = history_subgraphs(graph, Ragged.from_rows([[], []]), max_nodes=5)
    assert (len(empty.nodes), len(empty.edge_sources), len(empty.clicks)) == (0, 0, 0)
    with pytest.raises(InputError, match="news outside 0 to 119"):
        history_subgraphs(graph, Ragged.from_rows([[120]]))
