"""The best news for a user vector: an approximate index (usearch) and exact re-scoring.

Shapes: N news that can be recommended, B users, d size of a vector, K results.

A graph index over cosines finds nearest *directions*, but the score is an inner product, in which a long vector wins.
So each news vector gets one more number that makes all of them equally long, and user vectors get a 0 there: then the
order of cosines is the order of inner products (Bachrach et al., RecSys 2014). What the index finds is scored again in
float32, so a result's score never depends on the index, only whether a news is among the results does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from multiway_core.errors import CheckpointError
from multiway_core.files import atomic_write
from numpy.typing import NDArray
from usearch.index import Index, MetricKind, ScalarKind

EXACT_LIMIT = 20_000  # below this, scoring all of the news is faster than a walk through an index
_CONNECTIVITY = 16
_EXPANSION_ADD = 64
_EXPANSION_SEARCH = 400


class NewsIndex:
    """News that can be recommended, found by the inner product of their vectors with a user's."""

    def __init__(
        self,
        vectors_Nd: NDArray[np.float32],
        rows_N: NDArray[np.integer] | None = None,
        *,
        approximate: bool | None = None,
    ) -> None:
        """Index the vectors.

        Args:
            vectors_Nd: candidate vectors.
            rows_N: what the results are called (rows of the news table); None numbers them from 0.
            approximate: search a graph index instead of scoring all; None decides by ``EXACT_LIMIT``.
        """
        self.vectors_Nd = np.ascontiguousarray(vectors_Nd, np.float32)
        self.rows_N = np.arange(len(vectors_Nd)) if rows_N is None else np.asarray(rows_N, np.int64)
        if self.vectors_Nd.ndim != 2 or len(self.rows_N) != len(self.vectors_Nd):
            raise ValueError(
                f"need (N, d) vectors and N rows, not {self.vectors_Nd.shape}, {self.rows_N.shape}"
            )
        self.approximate = len(self.vectors_Nd) > EXACT_LIMIT if approximate is None else approximate
        self._index = self._build() if self.approximate and len(self.vectors_Nd) else None

    def __len__(self) -> int:
        return len(self.rows_N)

    def search(
        self, users_Bd: NDArray[np.float32], count: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """For each user the rows and scores of the best ``count`` news, best first; ties by row."""
        users_Bd = np.atleast_2d(np.asarray(users_Bd, np.float32))
        count = min(count, len(self))
        if count == 0:
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in users_Bd]
        if self._index is None:
            return [self._best(np.arange(len(self)), user, count) for user in users_Bd]
        queries = np.concatenate([users_Bd, np.zeros((len(users_Bd), 1), np.float32)], axis=1)
        found = []
        for user, query in zip(users_Bd, queries, strict=True):
            places = np.asarray(self._index.search(query, count, threads=1).keys, np.int64)
            found.append(self._best(places, user, count))
        return found

    def save(self, path: Path) -> None:
        """Write the graph index (not the vectors), atomically; nothing where the search is exact."""
        if self._index is not None:
            with atomic_write(path) as file:
                self._index.save(file.name)

    @classmethod
    def load(cls, path: Path, vectors_Nd: NDArray[np.float32], rows_N: NDArray[np.integer]) -> NewsIndex:
        """The index over these vectors from a file that :meth:`save` wrote for them.

        Raises CheckpointError: the file is no index, or one over other vectors.
        """
        made = cls(vectors_Nd, rows_N, approximate=False)
        index = made._empty()
        try:
            index.load(str(path))
        except (RuntimeError, ValueError, OSError) as error:
            raise CheckpointError(f"{path}: not a usearch index: {error}") from error
        if (len(index), index.ndim) != (len(made.vectors_Nd), made.vectors_Nd.shape[1] + 1):
            raise CheckpointError(
                f"{path}: an index of {len(index)} vectors of {index.ndim} numbers, "
                f"expected {len(made.vectors_Nd)} of {made.vectors_Nd.shape[1] + 1}; remove it to have it built anew"
            )
        made.approximate, made._index = True, index
        return made

    def _best(
        self, places: NDArray[np.int64], user: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        scores = (self.vectors_Nd if len(places) == len(self) else self.vectors_Nd[places]) @ user
        if len(places) == len(self):
            places = np.arange(len(self))
        if count < len(scores):
            kept = np.argpartition(-scores, count - 1)[:count]
            # All that tie with the last one, so that the choice among them does not depend on the partition.
            kept = np.flatnonzero(scores >= scores[kept].min())
            places, scores = places[kept], scores[kept]
        order = np.lexsort((self.rows_N[places], -scores))[:count]
        return self.rows_N[places[order]], scores[order]

    def _empty(self) -> Index:
        return Index(
            ndim=self.vectors_Nd.shape[1] + 1,
            metric=MetricKind.Cos,
            dtype=ScalarKind.F32,
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_EXPANSION_SEARCH,
        )

    def _build(self) -> Index:
        squares = np.square(self.vectors_Nd, dtype=np.float64).sum(axis=1)
        filled = np.sqrt(np.maximum(squares.max() - squares, 0)).astype(np.float32)
        index = self._empty()
        # One thread: the graph then depends on the vectors alone, and so do the results.
        index.add(
            np.arange(len(self.vectors_Nd)), np.concatenate([self.vectors_Nd, filled[:, None]], 1), threads=1
        )
        return index
