"""The part of a graph that a batch needs, with its nodes ordered by distance from the clicked news. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.glocim.features import Features


@dataclass(frozen=True)
class Adjacency:
    """Rows of senders: node i receives from ``indices[indptr[i]:indptr[i + 1]]`` (ours to the whole graph)."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def of_features(cls, features: Features, *, edge_weight: str) -> Adjacency:
        """The graph of the features, with the weights that messages carry. Raises InputError if there is none."""
        purpose = "the neighbour interest"
        indptr = np.asarray(features.need("graph_indptr", purpose), np.int64)
        indices = np.asarray(features.need("graph_indices", purpose), np.int32)
        if edge_weight == "one":
            return cls(indptr, indices, np.ones(len(indices), np.float32))
        weights = np.log1p(np.asarray(features.need("graph_weights", purpose), np.float64))
        rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        sums = np.bincount(rows, weights, minlength=len(indptr) - 1)
        return cls(indptr, indices, (weights / np.maximum(sums[rows], 1e-9)).astype(np.float32))

    def edges_of(self, nodes: NDArray[np.integer], limit: int | None = None) -> tuple[NDArray, NDArray]:
        """Places of the edges of the given nodes, one node behind the other, and how many each has.

        ``limit``: the first so many of each node.
        """
        counts = self.indptr[nodes + 1] - self.indptr[nodes]
        if limit is not None:
            counts = np.minimum(counts, limit)
        ends = np.cumsum(counts)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            self.indptr[nodes] - (ends - counts), counts
        )
        return places, counts


@dataclass(frozen=True)
class Subgraph:
    """Nodes (clicked ones first, in the order given, then by distance) and the edges among them in new numbers."""

    nodes: NDArray[np.int64]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]
    levels: tuple[int, ...]


def whole_graph(graph: Adjacency, num_layers: int) -> Subgraph:
    """Every node, every edge: what serving runs in."""
    num_nodes = len(graph.indptr) - 1
    return Subgraph(
        np.arange(num_nodes), graph.indptr, graph.indices, graph.weights, (num_nodes,) * (num_layers + 1)
    )


def reached(graph: Adjacency, clicked: NDArray[np.int64], *, num_layers: int) -> Subgraph:
    """What ``num_layers`` layers of the WHOLE graph need for the clicked news: exact, and as small as can be."""
    return _ordered(graph, clicked, None, num_layers)


def around(
    graph: Adjacency,
    clicked: NDArray[np.int64],
    *,
    hops: int,
    per_hop: int,
    num_layers: int,
    max_nodes: int | None,
) -> Subgraph:
    """GLORY's subgraph: ``hops`` steps to the first ``per_hop`` senders of each node, and ALL edges among the nodes."""
    chosen = np.zeros(len(graph.indptr) - 1, bool)
    chosen[clicked] = True
    count, frontier = int(chosen.sum()), np.unique(clicked)
    for _ in range(hops):
        places, _counts = graph.edges_of(frontier, per_hop)
        senders, first = np.unique(graph.indices[places], return_index=True)
        fresh = ~chosen[senders]
        senders, first = senders[fresh], first[fresh]
        if max_nodes is not None and count + len(senders) > max_nodes:
            senders = senders[np.argsort(first, kind="stable")[: max(0, max_nodes - count)]]
        chosen[senders] = True
        count += len(senders)
        frontier = senders.astype(np.int64)
    return _ordered(graph, clicked, chosen, num_layers)


def _ordered(
    graph: Adjacency, clicked: NDArray[np.int64], chosen: NDArray[np.bool_] | None, num_layers: int
) -> Subgraph:
    # Breadth first from the clicked news along the edges that are kept; a node farther than the layers reach is none.
    number = np.full(len(graph.indptr) - 1, -1, np.int32)
    number[clicked] = np.arange(len(clicked))
    nodes, levels, frontier = [clicked], [len(clicked)], clicked
    senders_of_rows, weights_of_rows, counts_of_rows = [], [], []
    for _ in range(num_layers):
        places, counts = graph.edges_of(frontier)
        senders = graph.indices[places]
        weights = graph.weights[places]
        if chosen is not None:
            kept = chosen[senders]
            counts = np.bincount(np.repeat(np.arange(len(frontier)), counts)[kept], minlength=len(frontier))
            senders, weights = senders[kept], weights[kept]
        is_new = np.zeros(len(number), bool)
        is_new[senders] = True
        is_new &= number < 0
        frontier = np.flatnonzero(is_new)
        number[frontier] = levels[-1] + np.arange(len(frontier))
        nodes.append(frontier)
        levels.append(levels[-1] + len(frontier))
        senders_of_rows.append(senders)
        weights_of_rows.append(weights)
        counts_of_rows.append(counts)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts_of_rows))]).astype(np.int64)
    return Subgraph(
        np.concatenate(nodes).astype(np.int64),
        indptr,
        number[np.concatenate(senders_of_rows)],
        np.concatenate(weights_of_rows).astype(np.float32),
        tuple(levels),
    )


def disjoint_union(parts: list[Subgraph], num_clicked: int) -> tuple[Subgraph, list[NDArray[np.int64]]]:
    """Subgraphs of several readers as one graph without edges between them, and where each part's nodes lie.

    ``num_clicked``: rows in all that are clicked; each part's clicked nodes come first there, part by part.
    """
    num_levels = len(parts[0].levels)
    bounds = [(0, *part.levels) for part in parts]
    starts = np.zeros((num_levels, len(parts)), np.int64)
    total, levels = 0, []
    for level in range(num_levels):
        for index, bound in enumerate(bounds):
            starts[level, index] = total
            total += bound[level + 1] - bound[level]
        levels.append(total)
    assert levels[0] == num_clicked
    places = [
        np.concatenate(
            [starts[level, index] + np.arange(bound[level + 1] - bound[level]) for level in range(num_levels)]
        )
        for index, bound in enumerate(bounds)
    ]
    nodes = np.zeros(total, np.int64)
    counts = np.zeros(levels[-2], np.int64)
    for part, place in zip(parts, places, strict=True):
        nodes[place] = part.nodes
        counts[place[: len(part.indptr) - 1]] = np.diff(part.indptr)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    indices, weights = np.zeros(indptr[-1], np.int32), np.zeros(indptr[-1], np.float32)
    for part, place in zip(parts, places, strict=True):
        rows = place[: len(part.indptr) - 1]
        lengths = np.diff(part.indptr)
        target = np.arange(part.indptr[-1]) + np.repeat(indptr[rows] - part.indptr[:-1], lengths)
        indices[target] = place[part.indices]
        weights[target] = part.weights
    return Subgraph(nodes, indptr, indices, weights, tuple(levels)), places
