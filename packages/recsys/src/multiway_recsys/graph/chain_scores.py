"""What a step of a chain scores, for whole batches of paths: the terms of `chains.select_chains`.

What depends only on the edge is added up once for the first B edges of every news; what depends on the path is added
when the path is walked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.graph.click_graph import ClickGraph, top_table
from multiway_recsys.graph.co_readers import CoReaders

if TYPE_CHECKING:
    from multiway_recsys.graph.chains import ChainConfig

Float64 = NDArray[np.float64]
ROWS_AT_ONCE = 4096
CONVERTED_BYTES = 1 << 30


def in_single_precision(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Converted once where that takes at most 1 GiB: each vector is used dozens of times."""
    return vectors.astype(np.float32, copy=False) if 4 * vectors.size <= CONVERTED_BYTES else vectors


def vector_lengths(vectors: NDArray[np.floating]) -> Float64:
    """(N,) Euclidean lengths, computed in float32."""
    lengths = np.zeros(len(vectors))
    for low in range(0, len(vectors), ROWS_AT_ONCE):
        part = vectors[low : low + ROWS_AT_ONCE].astype(np.float32, copy=False)
        lengths[low : low + ROWS_AT_ONCE] = np.sqrt(np.einsum("nd,nd->n", part, part))
    return lengths


@dataclass(frozen=True)
class StepScores:
    """Shape legend: N news, B branches, F steps of a batch (any number of them, flat)."""

    candidates_NB: NDArray[np.int32]  # 0 where a news has fewer neighbours
    edge_NB: Float64  # alpha, beta, rho, and phi of the step's own source
    co_readers: CoReaders | None
    support: NDArray[np.float32] | None  # (C,) phi of each entry of the co-readers
    vectors_ND: NDArray[np.floating] | None
    scale_N: Float64 | None  # 1 / length of each vector, 0 for a vector of zeros
    categories_N: NDArray[np.integer] | None
    config: ChainConfig

    @classmethod
    def prepare(
        cls,
        graph: ClickGraph,
        co_readers: CoReaders | None,
        vectors: NDArray[np.floating] | None,
        categories: NDArray[np.integer] | None,
        config: ChainConfig,
    ) -> StepScores:
        """Score every edge that a chain may take."""
        candidates, weights = top_table(graph, config.branches)
        edge = config.weight * np.log1p(weights.astype(np.float64))
        if config.hubs:
            assert co_readers is not None
            edge -= config.hubs * np.log1p(co_readers.reads[candidates].astype(np.float64))
        support = None
        if config.support:
            assert co_readers is not None
            support = co_readers.support()
        scale = None
        if vectors is not None:
            vectors, lengths = in_single_precision(vectors), vector_lengths(vectors)
            scale = np.divide(1, lengths, out=np.zeros(len(lengths)), where=lengths > 0)
        made = cls(candidates, edge, co_readers, support, vectors, scale, categories, config)
        for low in range(0, len(graph), ROWS_AT_ONCE):
            rows = np.arange(low, min(low + ROWS_AT_ONCE, len(graph)))
            here, slot = np.nonzero(candidates[rows])
            sources, targets = rows[here], candidates[rows[here], slot]
            if vectors is not None and config.similarity:
                edge[sources, slot] += config.similarity * made.cosine(sources, targets)
            if support is not None:
                edge[sources, slot] += config.support * made.shared_readers(sources, targets)
        return made

    def of_paths(self, path_FT: NDArray[np.int32], targets: NDArray[np.int32], edge: Float64) -> Float64:
        """(F,) scores of going on to `targets`; `path_FT` from the start to where the step begins, `edge` its part."""
        score = edge.copy()
        if self.support is not None:
            for place in range(path_FT.shape[1] - 1):
                score += self.config.support * self.shared_readers(path_FT[:, place], targets)
        if self.vectors_ND is not None and self.config.anchor:
            score += self.config.anchor * self.cosine(path_FT[:, 0], targets)
        if self.categories_N is not None and self.config.category:
            score += self.config.category * (self.categories_N[path_FT[:, 0]] == self.categories_N[targets])
        return score

    def cosine(self, ones: NDArray[np.integer], others: NDArray[np.integer]) -> Float64:
        """(F,) cosine of two news' vectors; 0 where one is all zero."""
        assert self.vectors_ND is not None
        assert self.scale_N is not None
        product = np.zeros(len(ones))
        for low in range(0, len(ones), ROWS_AT_ONCE):
            part = slice(low, low + ROWS_AT_ONCE)
            one, other = (
                self.vectors_ND[rows[part]].astype(np.float32, copy=False) for rows in (ones, others)
            )
            product[part] = np.einsum("fd,fd->f", one, other)
        return product * self.scale_N[ones] * self.scale_N[others]

    def shared_readers(self, ones: NDArray[np.integer], others: NDArray[np.integer]) -> NDArray[np.float32]:
        """(F,) log1p(co(one, other) / sqrt(reads(other))), 0 where nobody read both."""
        assert self.co_readers is not None
        assert self.support is not None
        place = find_entries(self.co_readers, ones, others)
        return np.where(
            place >= 0, self.support[np.maximum(place, 0)] if len(self.support) else 0, np.float32(0)
        )


def find_entries(
    co_readers: CoReaders, rows: NDArray[np.integer], columns: NDArray[np.integer]
) -> NDArray[np.int64]:
    """(F,) places of the entries (row, column), -1 where there is none: a binary search in all rows at once."""
    low, high = co_readers.indptr[rows], co_readers.indptr[rows + np.int64(1)]
    found = np.full(len(rows), -1, np.int64)
    filled = np.flatnonzero(high > low)
    if not len(filled):
        return found
    low, last, columns = low[filled], high[filled] - 1, columns[filled]
    place = low
    step = 1 << int((last - low).max()).bit_length() >> 1
    while step:
        probe = place + step
        ahead = (probe <= last) & (co_readers.indices[np.minimum(probe, last)] <= columns)
        place = np.where(ahead, probe, place)
        step >>= 1
    hit = co_readers.indices[place] == columns
    found[filled[hit]] = place[hit]
    return found
