"""A log in chunks and shards gives, byte for byte, the graph of the log at once, in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_recsys.data.tables import Ragged
from multiway_recsys.graph import RELEASED_COUNTING, ClickGraph, CoReaders
from multiway_recsys.graph.storage import StoredGraph
from multiway_recsys.graph.streaming import (
    EventChunk,
    GraphOptions,
    HistoryChunk,
    build_from_log,
    merge_log,
    spill,
)

NUM_NEWS = 90
IDS = ("", *(f"N{number}" for number in range(1, NUM_NEWS)))


def made_log(rows: int = 300) -> HistoryChunk:
    generator = np.random.default_rng(0)
    histories = Ragged.from_rows(
        [generator.integers(0, NUM_NEWS, generator.integers(0, 30)) for _ in range(rows)]
    )
    return HistoryChunk(
        histories, generator.integers(0, rows // 3, rows).astype(np.int64), generator.integers(0, 1000, rows)
    )


def taken(log: HistoryChunk, rows) -> HistoryChunk:
    rows = np.asarray(rows)
    assert log.times is not None
    return HistoryChunk(log.histories.take(rows), log.users[rows], log.times[rows])


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"direction": "in"},
        {"direction": "both", "min_weight": 2},
        {"min_weight": 3, "until": 700},
        {"rules": RELEASED_COUNTING, "direction": "in"},
    ],
)
def test_chunks_and_shards_give_the_bytes_of_one_shot(tmp_path, options) -> None:
    log = made_log()
    build = {"until": options.get("until"), "rules": options.get("rules")}
    times = {"times": log.times} if "until" in options else {}
    graph = ClickGraph.build(log.histories, log.users, NUM_NEWS, **times, **options)
    co_readers = CoReaders.build(log.histories, log.users, NUM_NEWS, cap=9, **times, **build)
    StoredGraph(graph, co_readers, news_ids=IDS).save(tmp_path / "at once")
    expected = bytes_of(tmp_path / "at once")

    rows = np.arange(len(log.users))
    if "rules" not in options:  # "the first row of a user" is the one rule that asks for the order
        rows = np.random.default_rng(1).permutation(rows)
    chunks = [taken(log, part) for part in np.array_split(rows, 7)]
    settings = GraphOptions(**options, cap=9, news_ids=IDS, pairs_at_once=300)
    streamed = build_from_log(chunks, NUM_NEWS, tmp_path / "streamed", settings, partitions=5)
    assert bytes_of(tmp_path / "streamed") == expected
    assert streamed.graph.indices.tobytes() == graph.indices.tobytes()

    for number, part in enumerate(np.array_split(rows, 4)):
        shard = [taken(log, some) for some in np.array_split(part, 2)]
        spill(
            shard, tmp_path / "spilled", NUM_NEWS, until=options.get("until"), partitions=3, shard=str(number)
        )
    merge_log(tmp_path / "spilled", NUM_NEWS, tmp_path / "shards", settings)
    assert bytes_of(tmp_path / "shards") == expected


def test_single_clicks_in_any_order_are_histories(tmp_path) -> None:
    generator = np.random.default_rng(2)
    users, times = generator.integers(0, 40, 2000), generator.integers(0, 100_000, 2000)
    news = generator.integers(1, NUM_NEWS, 2000)
    order = np.lexsort((news, times, users))
    order = order[times[order] < 90_000]
    names, starts = np.unique(users[order], return_index=True)
    histories = Ragged(news[order].astype(np.int32), np.append(starts, len(order)))
    expected = ClickGraph.build(histories, names, NUM_NEWS)
    chunks = (EventChunk(users[part], news[part], times[part]) for part in np.array_split(np.arange(2000), 9))
    made = build_from_log(
        chunks,
        NUM_NEWS,
        tmp_path / "graph",
        GraphOptions(window=None, until=90_000),
        partitions=4,
        scratch=tmp_path,
    )
    assert made.co_readers is None
    assert made.graph.until == 90_000
    for name in ("indptr", "indices", "weights"):
        assert getattr(made.graph, name).tobytes() == getattr(expected, name).tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]  # the spilled rows are gone


def test_an_empty_log(tmp_path) -> None:
    empty = HistoryChunk(Ragged.from_rows([[], [3]]), np.array([1, 2]))
    for number, chunks in enumerate([[], [empty]]):
        made = build_from_log(chunks, 5, tmp_path / str(number))
        assert (len(made.graph), made.graph.num_edges) == (5, 0)
    assert made.co_readers is not None
    assert made.co_readers.reads.tolist() == [0, 0, 0, 1, 0]


def test_memory_does_not_grow_with_the_log(tmp_path) -> None:
    def chunks(count: int):
        for number in range(count):
            generator = np.random.default_rng(number)
            values = generator.integers(1, 1000, 6_000).astype(np.int32)
            users = np.arange(300) + 300 * number
            yield HistoryChunk(Ragged(values, np.arange(0, 6_001, 20)), users)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            build_from_log(
                chunks(count),
                1000,
                tmp_path / str(count),
                GraphOptions(pairs_at_once=1 << 13, window=5),
                partitions=2 * count,
                scratch=tmp_path,
            )
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(3), peak(10)
    assert large < 1.25 * small
    assert large < 10 * 6_000 * 5 * 8  # the keys of all co-reader pairs alone


def test_bad_logs_are_named(tmp_path) -> None:
    events = EventChunk(np.array([1]), np.array([1]), np.array([1]))
    with pytest.raises(InputError, match="one kind of chunk"):
        build_from_log([made_log(9), events], NUM_NEWS, tmp_path / "graph")
    with pytest.raises(InputError, match="news 90; with 90 news"):
        build_from_log(
            [EventChunk(np.array([1]), np.array([90]), np.array([1]))], NUM_NEWS, tmp_path / "graph"
        )
    with pytest.raises(InputError, match="1 users, 2 news and 1 times"):
        build_from_log(
            [EventChunk(np.array([1]), np.array([1, 2]), np.array([1]))], NUM_NEWS, tmp_path / "graph"
        )
    with pytest.raises(InputError, match="chunks have no times"):
        build_from_log(
            [HistoryChunk(made_log(9).histories, np.arange(9))],
            NUM_NEWS,
            tmp_path / "graph",
            GraphOptions(until=5),
        )
    assert not (tmp_path / "graph").exists()
