"""The click graph of logs larger than memory: spill by user, count user by user, merge sorted runs.

    spill    every chunk's rows go to the partition of their user on disk (any number of shards, in any order)
    count    a partition is read whole, one history a user is counted, and its pairs are written as one sorted run
    merge    the runs are added up in ranges of sources, rows are ordered, and the folder of `artefact` is written

Each step holds one chunk, one partition or one range at a time, beside a few numbers a news. Counts are sums and the
choice of a user's history does not ask for its place, so the files are byte for byte those of `ClickGraph.build` and
`CoReaders.build`, however the log is cut into shards and chunks or shuffled.

`build_from_log` does all three. Several processes may `spill` a shard each, under names of their own; `merge_log` then
makes one graph of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from multiway_core.errors import InputError, OutputError, os_reason
from numpy.typing import NDArray

from multiway_recsys.data.tables import Behaviors, Ragged
from multiway_recsys.graph.click_graph import (
    Direction,
    check_direction,
    order_rows,
    popularity_rank,
    rows_until,
)
from multiway_recsys.graph.co_readers import LARGEST_ROWS, WINDOW, count_reads, largest_of_rows
from multiway_recsys.graph.pair_counts import (
    PAIRS_AT_ONCE,
    CountingRules,
    PairCounts,
    check_histories,
    iter_pair_counts,
    rows_of_users,
)
from multiway_recsys.graph.storage import GraphWriter, StoredGraph

Int64 = NDArray[np.int64]

PARTITIONS = 64
_MIX = np.uint64(
    0x9E3779B97F4A7C15
)  # 2^64 / golden ratio: neighbouring user numbers go to different partitions
_PART_TYPES = {"users": "<i8", "lengths": "<i8", "values": "<i4"}
_EVENT = np.dtype([("user", "<i8"), ("time", "<i8"), ("news", "<i4")])


@dataclass(frozen=True)
class HistoryChunk:
    """Rows of a log in which each row repeats what its user had read before, as MIND's impressions do."""

    histories: Ragged
    users: NDArray[np.integer]  # (rows,)
    times: NDArray[np.int64] | None = None  # (rows,) seconds since 1970 before which the clicks happened

    @classmethod
    def of(cls, behaviors: Behaviors) -> HistoryChunk:
        """The histories of impressions, such as `data.mind_behaviors.stream_behaviors` gives piece by piece."""
        return cls(behaviors.histories, behaviors.users, behaviors.times)


@dataclass(frozen=True)
class EventChunk:
    """Single clicks, in any order. A user's history is made of all of them by time (equal times: by news)."""

    users: NDArray[np.integer]  # (clicks,)
    news: NDArray[np.integer]  # (clicks,)
    times: NDArray[np.int64]  # (clicks,) seconds since 1970


Chunk = HistoryChunk | EventChunk


@dataclass(frozen=True)
class GraphOptions:
    """What is built; `direction`, `min_weight`, `cap` and `rules` as in `ClickGraph.build` and `CoReaders.build`."""

    direction: Direction = "out"
    until: int | None = None
    """Seconds since 1970: clicks at or after it, and rows of later impressions, are left out."""
    min_weight: int = 1
    window: int | None = WINDOW
    """Of the co-readers; None: the graph alone."""
    cap: int | None = LARGEST_ROWS
    rules: CountingRules = field(default_factory=CountingRules)
    news_ids: Sequence[str] | None = None
    pairs_at_once: int = PAIRS_AT_ONCE
    """Pairs that are counted together, about 50 bytes each."""
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_direction(self.direction)


DEFAULTS = GraphOptions()


def build_from_log(
    chunks: Iterable[Chunk],
    num_news: int,
    folder: Path,
    options: GraphOptions = DEFAULTS,
    *,
    scratch: Path | None = None,
    partitions: int = PARTITIONS,
) -> StoredGraph:
    """Build graph and co-readers of a log that is read once, and open them memory-mapped.

    Args:
        chunks: the log; all of one kind.
        folder: where the graph goes (see `storage`).
        scratch: where about twice the log's size goes for a while; None: the system's place for it.
        partitions: each is held in memory once: take enough that log / partitions fits easily.

    Raises InputError (news outside the graph, chunks of both kinds) and OutputError.
    """
    with tempfile.TemporaryDirectory(prefix="click-graph-", dir=scratch) as place:
        spill(chunks, Path(place), num_news, until=options.until, partitions=partitions)
        return merge_log(Path(place), num_news, folder, options)


def spill(
    chunks: Iterable[Chunk],
    scratch: Path,
    num_news: int,
    *,
    until: int | None = None,
    partitions: int = PARTITIONS,
    shard: str = "0",
) -> None:
    """Write the rows of one shard of the log to the partitions of their users, below `scratch`.

    Raises InputError: news outside the graph, chunks of both kinds. Raises OutputError: no space.
    """
    kinds: set[type] = set()
    for chunk in chunks:
        kinds.add(type(chunk))
        if len(kinds) > 1:
            raise InputError("a log is either of histories or of single clicks: give one kind of chunk")
        rows = _event_rows(chunk, num_news, until) if isinstance(chunk, EventChunk) else None
        if rows is not None:
            for number, places in _by_partition(rows["user"], partitions):
                _append(scratch, number, shard, "events", rows[places])
            continue
        assert isinstance(chunk, HistoryChunk)
        histories, users = _history_rows(chunk, num_news, until)
        for number, places in _by_partition(users, partitions):
            part = histories.take(places)
            arrays = {"users": users[places], "lengths": part.lengths, "values": part.values}
            for name, array in arrays.items():
                _append(scratch, number, shard, name, array.astype(_PART_TYPES[name], copy=False))


def merge_log(scratch: Path, num_news: int, folder: Path, options: GraphOptions = DEFAULTS) -> StoredGraph:
    """Count and merge what `spill` left below `scratch`."""
    windows = {"steps": 1} if options.window is None else {"steps": 1, "co_readers": options.window}
    reads = np.zeros(num_news, np.int32)
    for number in sorted(int(path.name) for path in scratch.glob("[0-9]*")):
        histories, users = _read_partition(scratch / str(number))
        rows = rows_of_users(histories, users, options.rules)
        histories = histories.take(rows)
        reads += count_reads(histories, None, num_news)
        for name, size in windows.items():
            parts = iter_pair_counts(
                histories,
                None,
                num_news,
                window=size,
                rules=options.rules,
                pairs_at_once=options.pairs_at_once,
            )
            write_run(scratch / name, str(number), parts)
    return merge_runs(scratch, reads, num_news, folder, options)


def merge_runs(
    scratch: Path, reads: NDArray[np.int32], num_news: int, folder: Path, options: GraphOptions
) -> StoredGraph:
    """The graph of the sorted runs in `scratch/steps`, and the co-readers of `reads` (N,) and `scratch/co_readers`."""
    with GraphWriter(folder, num_news, overwrite=options.overwrite) as writer:
        _write_graph(scratch, writer, num_news, options)
        if options.window is not None:
            parts = _merged(_runs(scratch / "co_readers"), num_news, options.pairs_at_once)
            capped = (largest_of_rows(part, options.cap) for part in parts)
            writer.co_readers(capped, reads, window=options.window, cap=options.cap)
        writer.finish(
            direction=options.direction,
            min_weight=options.min_weight,
            until=options.until,
            news_ids=options.news_ids,
        )
    return StoredGraph.load(folder)


def _event_rows(chunk: EventChunk, num_news: int, until: int | None) -> NDArray[Any]:
    if not len(chunk.users) == len(chunk.news) == len(chunk.times):
        raise InputError(
            f"{len(chunk.users)} users, {len(chunk.news)} news and {len(chunk.times)} times: clicks need one of each"
        )
    offsets = np.array([0, len(chunk.news)], np.int64)
    check_histories(Ragged(np.asarray(chunk.news), offsets), None, num_news)
    rows = np.empty(len(chunk.users), _EVENT)
    rows["user"], rows["time"], rows["news"] = chunk.users, chunk.times, chunk.news
    return rows if until is None else rows[rows["time"] < until]


def _history_rows(
    chunk: HistoryChunk, num_news: int, until: int | None
) -> tuple[Ragged, NDArray[np.integer]]:
    check_histories(chunk.histories, chunk.users, num_news)
    if until is None:
        return chunk.histories, chunk.users
    if chunk.times is None:
        raise InputError("until is given, but the log's chunks have no times")
    histories, users, _ = rows_until(chunk.histories, chunk.users, chunk.times, until)
    assert users is not None
    return histories, users


def _by_partition(users: NDArray[np.integer], partitions: int) -> Iterator[tuple[int, Int64]]:
    """Places of the rows of each partition, in their order."""
    mixed = users.astype(np.int64).view(np.uint64) * _MIX
    numbers = ((mixed >> np.uint64(32)) % np.uint64(partitions)).astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(partitions + 1))
    for number in range(partitions):
        if bounds[number] < bounds[number + 1]:
            yield number, order[bounds[number] : bounds[number + 1]]


def _append(scratch: Path, number: int, shard: str, name: str, array: NDArray[Any]) -> None:
    folder = scratch / str(number)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{shard}.{name}").open("ab") as file:
            np.ascontiguousarray(array).tofile(file)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {os_reason(error)}") from error


def _read_partition(folder: Path) -> tuple[Ragged, NDArray[np.int64]]:
    """Histories and users of all shards, shards by name."""

    def read(name: str, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.fromfile(path, dtype) for path in sorted(folder.glob(f"*.{name}"))])

    if any(folder.glob("*.events")):
        events = read("events", _EVENT)
        events = events[np.lexsort((events["news"], events["time"], events["user"]))]
        users, first = np.unique(events["user"], return_index=True)
        return Ragged(events["news"].copy(), np.append(first, len(events))), users
    users, lengths, values = (read(name, dtype) for name, dtype in _PART_TYPES.items())
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)])), users


def write_run(folder: Path, name: str, parts: Iterable[PairCounts]) -> None:
    """A sorted run on disk: its keys and its counts."""
    try:
        folder.mkdir(exist_ok=True)
        with (folder / f"{name}.keys").open("wb") as keys, (folder / f"{name}.counts").open("wb") as counts:
            for part in parts:
                part.keys.tofile(keys)
                part.counts.tofile(counts)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {os_reason(error)}") from error


def _runs(folder: Path) -> list[tuple[Int64, Int64]]:
    """The runs, mapped: (keys, counts) each."""
    paths = sorted(path for path in folder.glob("*.keys") if path.stat().st_size)
    return [(_mapped(path), _mapped(path.with_suffix(".counts"))) for path in paths]


def _mapped(path: Path) -> Int64:
    return np.memmap(path, np.int64, "r").view(np.ndarray)


def _merged(runs: list[tuple[Int64, Int64]], num_news: int, pairs_at_once: int) -> Iterator[PairCounts]:
    """The sum of all runs, in parts of whole sources."""
    starts = [0] * len(runs)
    for bound in _bounds(runs, num_news, pairs_at_once):
        ends = [int(np.searchsorted(keys, bound)) for keys, _ in runs]
        slices = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
        keys = np.concatenate([run[part] for (run, _), part in zip(runs, slices, strict=True)])
        counts = np.concatenate([run[part] for (_, run), part in zip(runs, slices, strict=True)])
        starts = ends
        if not len(keys):
            continue
        order = np.argsort(keys, kind="stable")  # runs that are sorted already: a merge
        keys, counts = keys[order], counts[order]
        first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        yield PairCounts(keys[first], np.add.reduceat(counts, first), num_news)


def _bounds(runs: list[tuple[Int64, Int64]], num_news: int, pairs_at_once: int) -> list[int]:
    """Keys that cut the runs into ranges of about `pairs_at_once` pairs, whole sources each; the last ends all."""
    if not runs:
        return []
    every = max(1, pairs_at_once // (4 * len(runs)))
    samples = np.sort(np.concatenate([keys[every - 1 :: every] for keys, _ in runs]))
    cuts = samples[pairs_at_once // every - 1 :: max(1, pairs_at_once // every)] // num_news * num_news
    return [*np.unique(cuts).tolist(), num_news * num_news]


def _write_graph(scratch: Path, writer: GraphWriter, num_news: int, options: GraphOptions) -> None:
    direction, min_weight, pairs_at_once = options.direction, options.min_weight, options.pairs_at_once

    def kept(parts: Iterable[PairCounts]) -> Iterator[PairCounts]:
        for part in parts:
            keep = part.counts >= min_weight
            yield PairCounts(part.keys[keep], part.counts[keep], num_news) if min_weight > 1 else part

    # The order of a row asks for the popularity of its news, which is known when all steps are merged: two passes.
    popularity = np.zeros(num_news, np.int64)
    for part in _counting(kept(_merged(_runs(scratch / "steps"), num_news, pairs_at_once)), popularity):
        if direction != "out":
            keys = part.targets * num_news + part.sources
            order = np.argsort(keys)
            write_run(
                scratch / "turned", f"{part.keys[0]}", [PairCounts(keys[order], part.counts[order], num_news)]
            )
    runs = _runs(scratch / "steps")
    if direction != "out":
        turned = _merged(_runs(scratch / "turned"), num_news, pairs_at_once)
        if direction == "in":
            parts: Iterable[PairCounts] = turned
        else:
            write_run(scratch / "both", "forward", kept(_merged(runs, num_news, pairs_at_once)))
            write_run(scratch / "both", "backward", turned)
            parts = _merged(_runs(scratch / "both"), num_news, pairs_at_once)
    else:
        parts = kept(_merged(runs, num_news, pairs_at_once))
    rank = popularity_rank(popularity)
    for part in parts:
        sources = part.sources.astype(np.int32)
        targets = part.targets.astype(np.int32)
        order = order_rows(sources, targets, part.counts, rank)
        writer.edges(sources, targets[order], part.counts[order])


def _counting(parts: Iterable[PairCounts], popularity: Int64) -> Iterator[PairCounts]:
    for part in parts:
        popularity += np.bincount(part.targets, weights=part.counts, minlength=len(popularity)).astype(
            np.int64
        )
        if len(part.keys):
            yield part
