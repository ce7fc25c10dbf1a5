"""Co-reader counts against sets of Python tuples, the cap, updates, and look-ups."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from multiway_recsys.data.tables import Ragged
from multiway_recsys.graph import CoReaders
from multiway_recsys.graph.chain_scores import find_entries
from multiway_recsys.graph.co_readers import largest_of_rows

NUM_NEWS = 40


def made_histories(seed: int, rows: int = 60) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, NUM_NEWS, generator.integers(0, 45)).astype(np.int32) for _ in range(rows)]


def counted(co_readers: CoReaders) -> dict[tuple[int, int], int]:
    pairs = co_readers.pairs()
    return {
        (int(i), int(j)): int(c) for i, j, c in zip(pairs.sources, pairs.targets, pairs.counts, strict=True)
    }


def reference(histories: list[np.ndarray], window: int) -> Counter[tuple[int, int]]:
    counts: Counter[tuple[int, int]] = Counter()
    for history in histories:
        counts.update(
            {
                (i, j)
                for place, i in enumerate(history.tolist())
                for j in history[place + 1 : place + 1 + window].tolist()
                if i and j and i != j
            }
        )
    return counts


def test_counts_and_reads_are_those_of_sets() -> None:
    histories = made_histories(0)
    for window in (5, 20):
        co_readers = CoReaders.build(Ragged.from_rows(histories), None, NUM_NEWS, window=window, cap=None)
        assert counted(co_readers) == reference(histories, window)
    reads = Counter(news for history in histories for news in set(history.tolist()) if news)
    assert co_readers.reads.tolist() == [reads[news] for news in range(NUM_NEWS)]


def test_the_cap_keeps_the_largest_counts_and_smaller_ids_first() -> None:
    histories = made_histories(1)
    whole = reference(histories, 20)
    for pairs_at_once in (200, 1 << 20):
        capped = CoReaders.build(
            Ragged.from_rows(histories), None, NUM_NEWS, cap=7, pairs_at_once=pairs_at_once
        )
        for news in range(NUM_NEWS):
            row = sorted(((-c, j) for (i, j), c in whole.items() if i == news))[:7]
            begin, end = capped.indptr[news : news + 2]
            assert capped.indices[begin:end].tolist() == sorted(j for _, j in row)
            assert dict(
                zip(capped.indices[begin:end].tolist(), capped.counts[begin:end].tolist(), strict=True)
            ) == {j: -c for c, j in row}
    again = largest_of_rows(CoReaders.build(Ragged.from_rows(histories), None, NUM_NEWS, cap=None).pairs(), 7)
    assert again.targets.astype(np.int32).tobytes() == capped.indices.tobytes()


def test_entries_are_found_and_missing_ones_are_not() -> None:
    co_readers = CoReaders.build(Ragged.from_rows(made_histories(3)), None, NUM_NEWS, cap=9)
    rows, columns = (part.ravel() for part in np.indices((NUM_NEWS, NUM_NEWS)))
    places = find_entries(co_readers, rows, columns)
    found = {
        (int(i), int(j)): int(co_readers.counts[p])
        for i, j, p in zip(rows, columns, places, strict=True)
        if p >= 0
    }
    assert found == counted(co_readers)
    nothing = CoReaders.build(Ragged.from_rows([[1], [2]]), None, 3)
    assert find_entries(nothing, np.array([1, 2]), np.array([2, 1])).tolist() == [-1, -1]


def test_support_is_less_for_news_that_everybody_reads() -> None:
    histories = Ragged.from_rows([[1, 2, 3], [1, 2, 3], [4, 3], [5, 3], [6, 3]])
    co_readers = CoReaders.build(histories, None, 7)
    support = dict(zip(co_readers.indices.tolist()[:2], co_readers.support()[:2], strict=True))
    assert support[2] == pytest.approx(np.log1p(2 / np.sqrt(2)))
    assert support[3] == pytest.approx(np.log1p(2 / np.sqrt(5)))
