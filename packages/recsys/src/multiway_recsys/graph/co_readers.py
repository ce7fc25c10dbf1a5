"""Co-readers: how many users read news j within the next 20 clicks after news a, and how many read a at all.

A path through the click graph forgets whom it follows: each step is made by other users. Co-reader counts say whether
those who read the start of a path are among those who read its next news, which keeps a long chain with one circle of
readers (the abstract's "collaboratively among similar users").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import NO_NEWS, Ragged
from multiway_recsys.graph.click_graph import rows_until
from multiway_recsys.graph.pair_counts import (
    PAIRS_AT_ONCE,
    CountingRules,
    PairCounts,
    check_histories,
    iter_pair_counts,
    rows_of_users,
)

WINDOW = 20
LARGEST_ROWS = 64


@dataclass(frozen=True)
class CoReaders:
    """Sparse counts over N news: row a holds the j in ascending order of id."""

    indptr: NDArray[np.int64]  # (N + 1,)
    indices: NDArray[np.int32]  # (C,)
    counts: NDArray[np.int32]  # (C,) users that read a and, within the window, j
    reads: NDArray[np.int32]  # (N,) users that read the news
    window: int = WINDOW
    cap: int | None = LARGEST_ROWS
    """Entries kept of a row: those with the largest counts, the smaller id among equals. None: all."""

    @classmethod
    def build(
        cls,
        histories: Ragged,
        users: NDArray[np.integer] | None,
        num_news: int,
        *,
        window: int = WINDOW,
        cap: int | None = LARGEST_ROWS,
        until: int | None = None,
        times: NDArray[np.int64] | None = None,
        rules: CountingRules | None = None,
        pairs_at_once: int = PAIRS_AT_ONCE,
    ) -> CoReaders:
        """Count over all users' histories; arguments as in `ClickGraph.build`.

        Memory beyond the histories is about 50 bytes x `pairs_at_once` and the kept entries, not all pairs at once.
        """
        if cap is not None and cap < 1:
            raise InputError(f"{cap} co-readers a row: give 1 or more, or None for all")
        if times is not None:
            histories, users, _ = rows_until(histories, users, times, until)
        parts = iter_pair_counts(
            histories, users, num_news, window=window, rules=rules, pairs_at_once=pairs_at_once
        )
        return cls.from_parts(
            (largest_of_rows(part, cap) for part in parts),
            count_reads(histories, users, num_news, rules),
            window=window,
            cap=cap,
        )

    @classmethod
    def from_parts(
        cls, parts: Iterable[PairCounts], reads: NDArray[np.int32], *, window: int, cap: int | None
    ) -> CoReaders:
        """Of PairCounts in ascending order, each already cut to `cap`; `reads` (N,)."""
        num_news = len(reads)
        indices, counts, degrees = [], [], np.zeros(num_news, np.int64)
        for part in parts:
            sources = part.sources
            degrees += np.bincount(sources, minlength=num_news)
            indices.append((part.keys - sources * num_news).astype(np.int32))
            counts.append(part.counts.astype(np.int32))
        return cls(
            indptr=np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64),
            indices=np.concatenate(indices) if indices else np.zeros(0, np.int32),
            counts=np.concatenate(counts) if counts else np.zeros(0, np.int32),
            reads=reads,
            window=window,
            cap=cap,
        )

    def __len__(self) -> int:
        """News, the padding row included."""
        return len(self.indptr) - 1

    def pairs(self) -> PairCounts:
        """The counts as ascending pairs."""
        rows = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        return PairCounts(rows * len(self) + self.indices, self.counts.astype(np.int64), len(self))

    def support(self) -> NDArray[np.float32]:
        """(C,) log(1 + count / sqrt(reads of j)): a lift, so that news read by everybody supports little."""
        return np.log1p(self.counts / np.sqrt(np.maximum(self.reads[self.indices], 1))).astype(np.float32)


def count_reads(
    histories: Ragged, users: NDArray[np.integer] | None, num_news: int, rules: CountingRules | None = None
) -> NDArray[np.int32]:
    """(N,) users that read each news, each user once; news 0 is 0."""
    check_histories(histories, users, num_news)
    chosen = histories.take(rows_of_users(histories, users, rules or CountingRules()))
    keys = np.repeat(np.arange(len(chosen)), chosen.lengths) * num_news + chosen.values
    keys.sort()
    distinct = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
    reads = np.bincount(distinct % num_news, minlength=num_news).astype(np.int32)
    reads[NO_NEWS] = 0
    return reads


def largest_of_rows(pairs: PairCounts, cap: int | None) -> PairCounts:
    """Only the `cap` largest counts of each source, smaller targets first among equals; still ascending."""
    if cap is None or not len(pairs.keys):
        return pairs
    sources = pairs.sources
    starts = np.flatnonzero(np.append(True, sources[1:] != sources[:-1]))
    lengths = np.diff(starts, append=len(sources))
    if int(lengths.max()) <= cap:
        return pairs
    row = np.repeat(np.arange(len(starts)), lengths)
    # Almost all counts are 1, and those stand in their order already: only the others are sorted.
    heavy = np.flatnonzero(pairs.counts > 1)
    heavy = heavy[
        np.lexsort((-pairs.counts[heavy], row[heavy]))
    ]  # stable: smaller targets first among equals
    heavy_of_row = np.bincount(row[heavy], minlength=len(starts))
    rank = np.arange(len(heavy)) - np.repeat(np.cumsum(heavy_of_row) - heavy_of_row, heavy_of_row)
    keep = np.zeros(len(sources), bool)
    keep[heavy[rank < cap]] = True
    light = pairs.counts == 1
    before = np.cumsum(light)
    place = before - np.repeat(before[starts] - light[starts], lengths)  # 1 for the first light one of a row
    keep |= light & (place <= np.repeat(cap - heavy_of_row, lengths))
    return PairCounts(pairs.keys[keep], pairs.counts[keep], pairs.num_news)
