"""Training-free diagnostic of chains: candidates scored by their similarity to a set of news.

A set that scores well may just be newer or more popular than another. So each figure stands beside that of another
reader's set, and beside the population-centred one: the own score less the mean over other readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.data.tables import NO_NEWS, Behaviors, Ragged

TEMPERATURE = 0.12
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class NodeSetScores:
    """AUC of every impression (M,), NaN without a positive, a negative or a set.

    own: with the reader's set; swapped: with another reader's; centred: own score minus its mean over other readers.
    """

    own: Float64
    swapped: Float64
    centred: Float64

    def means(self) -> tuple[float, float, float]:
        """Mean own, swapped and centred AUC."""
        return float(np.nanmean(self.own)), float(np.nanmean(self.swapped)), float(np.nanmean(self.centred))


def chain_nodes(histories: Ragged, chains: NDArray[np.int32], hops: tuple[int, int]) -> Ragged:
    """The news in hops ``first..last`` (1 is the first step) of the chains of each history: a row a history, distinct.

    ``chains`` is a table (N, K, L), 0 where empty.
    """
    first, last = hops
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    nodes = chains[histories.values, :, first - 1 : last].reshape(len(rows), -1)
    return _distinct(np.repeat(rows, nodes.shape[1]), nodes.ravel(), len(histories))


def _distinct(rows: NDArray[np.integer], nodes: NDArray[np.int32], count: int) -> Ragged:
    nodes_at_most = int(nodes.max(initial=0)) + 1
    keys = np.unique(rows.astype(np.int64)[nodes != NO_NEWS] * nodes_at_most + nodes[nodes != NO_NEWS])
    offsets = np.searchsorted(keys, np.arange(count + 1, dtype=np.int64) * nodes_at_most)
    return Ragged((keys % nodes_at_most).astype(np.int32), offsets.astype(np.int64))


def diagnose(
    behaviors: Behaviors, sets: Ragged, vectors: NDArray[np.float32], *, others: int = 40, seed: int = 0
) -> NodeSetScores:
    """Score the candidates of all impressions by their likeness to sets of news, a row an impression.

    The score is the mean of ``exp(cosine / 0.12)`` over the set, so the closest count most. ``vectors`` (N, d) have
    unit length. Other readers are drawn from those of the table; some hundred impressions (``behaviors.take``) are
    enough.
    """
    assert behaviors.labels is not None
    rng = np.random.default_rng(seed)
    filled = np.flatnonzero(sets.lengths)
    own, swapped, centred = (np.full(len(behaviors), np.nan) for _ in range(3))
    for row in range(len(behaviors)):
        drawn = rng.choice(filled, others) if len(filled) else filled
        drawn = drawn[behaviors.users[drawn] != behaviors.users[row]]
        span = slice(behaviors.candidates.offsets[row], behaviors.candidates.offsets[row + 1])
        labels = behaviors.labels[span]
        if not len(sets[row]) or not len(drawn) or labels.all() or not labels.any():
            continue
        candidates = vectors[behaviors.candidates.values[span]]
        scores = _likeness(candidates, [sets[row], *(sets[other] for other in drawn)], vectors)
        own[row] = _auc(labels, scores[0])
        swapped[row] = _auc(labels, scores[1])
        centred[row] = _auc(labels, scores[0] - scores[1:].mean(0))
    return NodeSetScores(own, swapped, centred)


def _likeness(
    candidates: NDArray[np.float32], sets: Sequence[NDArray[np.int32]], vectors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(sets, candidates) mean of exp(cosine / 0.12) over each set."""
    nodes = np.concatenate(sets)
    kernel = np.exp(vectors[nodes] @ candidates.T / TEMPERATURE)
    lengths = np.array([len(members) for members in sets])
    sums = np.add.reduceat(kernel, np.cumsum(lengths) - lengths, axis=0)
    return sums / lengths[:, None]


def _auc(labels: NDArray[np.int8], scores: NDArray[np.floating]) -> float:
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = positive[:, None] > negative
    return float((wins + 0.5 * (positive[:, None] == negative)).mean())
