"""The part of the graph around a reader's clicks, for message passing: k hops of top neighbours, all edges among them.

As GLORY takes it: hop by hop the first 8 neighbours of every news reached, then the subgraph that these induce. All
users of a batch are done together; each keeps nodes of its own (block-diagonal), or all share one subgraph (`union`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import NO_NEWS, Ragged
from multiway_recsys.graph.click_graph import ClickGraph, top_neighbours

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Subgraphs:
    """n nodes and e edges of all users of a batch."""

    nodes: Int32  # (n,) news, ascending within a user
    rows: Int32  # (n,) user (row of the histories) of each node, ascending; all 0 in a union
    edge_sources: Int32  # (e,) into nodes: read first
    edge_targets: Int32  # (e,) into nodes, ascending: read later
    edge_weights: NDArray[np.float32]  # (e,)
    clicks: Int32  # (values of the histories,) node of each click


def history_subgraphs(
    graph: ClickGraph,
    histories: Ragged,
    *,
    hops: int = 2,
    neighbours: int = 8,
    union: bool = False,
    max_nodes: int | None = None,
    table: Int32 | None = None,
) -> Subgraphs:
    """Subgraphs around the clicks of each row. Messages go from the news read first to the one read later.

    `max_nodes`: at most so many nodes a row, clicks first, then the nearest hop, then in the order in which the
    neighbours come up (a row may hold more clicks than that: they all stay). `table`: `top_neighbours(graph,
    neighbours)`, if it is at hand. With a graph of direction `in` this is GLORY's subgraph.

    Raises InputError: news outside the graph.
    """
    if len(histories.values) and not 0 <= int(histories.values.min()) <= int(histories.values.max()) < len(
        graph
    ):
        raise InputError(f"a history holds news outside 0 to {len(graph) - 1}")
    if table is None:
        table = top_neighbours(graph, neighbours)
    num_news = np.int64(len(graph))
    rows = np.zeros(len(histories.values), np.int64)
    if not union:
        rows = np.repeat(np.arange(len(histories)), histories.lengths)
    click_keys = rows * num_news + histories.values
    known = np.unique(click_keys)
    frontier = _unique_in_order(click_keys)
    for _ in range(hops):
        reached = table[frontier % num_news]
        keys = (frontier // num_news * num_news)[:, None] + reached
        keys = _unique_in_order(keys[reached != NO_NEWS])
        frontier = keys[~_contains(known, keys)]
        if max_nodes is not None:
            frontier = _capped(frontier, known, num_news, max_nodes)
        if not len(frontier):
            break
        known = np.union1d(known, frontier)
    nodes = known % num_news
    sources, targets, weights = _edges_among(graph, known, nodes)
    return Subgraphs(
        nodes=nodes.astype(np.int32),
        rows=(known // num_news).astype(np.int32),
        edge_sources=sources,
        edge_targets=targets,
        edge_weights=weights,
        clicks=np.searchsorted(known, click_keys).astype(np.int32),
    )


def _edges_among(graph: ClickGraph, known: Int64, nodes: Int64) -> tuple[Int32, Int32, NDArray[np.float32]]:
    """All edges of the graph between nodes of one row, ordered by target."""
    begins, lengths = graph.indptr[nodes], graph.degrees[nodes]
    starts = np.cumsum(lengths) - lengths
    places = np.arange(int(lengths.sum())) + np.repeat(begins - starts, lengths)
    here = np.repeat(np.arange(len(nodes)), lengths)
    others = graph.indices[places]
    keys = known[here] - nodes[here] + others
    there = np.searchsorted(known, keys)
    inside = np.flatnonzero(known[np.minimum(there, len(known) - 1)] == keys) if len(known) else there
    here, there, weights = here[inside], there[inside], graph.weights[places[inside]]
    sources, targets = (there, here) if graph.direction == "in" else (here, there)
    order = np.argsort(targets, kind="stable")
    return sources[order].astype(np.int32), targets[order].astype(np.int32), weights[order]


def _unique_in_order(keys: Int64) -> Int64:
    _, first = np.unique(keys, return_index=True)
    return keys[np.sort(first)]


def _contains(known: Int64, keys: Int64) -> NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(keys), bool)
    return known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys


def _capped(frontier: Int64, known: Int64, num_news: np.int64, max_nodes: int) -> Int64:
    """The first of each row's new nodes, as many as there is room for."""
    if not len(frontier):
        return frontier
    rows = frontier // num_news
    num_rows = int(max(rows.max(), known.max() // num_news)) + 1
    room = np.maximum(max_nodes - np.bincount(known // num_news, minlength=num_rows), 0)
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=num_rows)
    rank = np.empty(len(frontier), np.int64)
    rank[order] = np.arange(len(frontier)) - np.repeat(np.cumsum(counts) - counts, counts)
    return frontier[rank < room[rows]]
