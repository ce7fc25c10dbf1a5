"""The global click graph: i -> j with weight w where w users read j right after i (GLoCIM and GLORY, section 3.2).

A graph is three arrays in compressed rows. Row i lists the neighbours of news i in one fixed order: heavier edges
first, then the neighbour that more clicks lead to, then the smaller id. In MIND 92 of 100 edges have weight 1, so the
order within equal weights decides which neighbours count; the papers' code leaves it to an unstable sort.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray
from scipy import sparse

from multiway_recsys.data.tables import NO_NEWS, Ragged
from multiway_recsys.graph.pair_counts import CountingRules, PairCounts, count_pairs

Direction = Literal["out", "in", "both"]
EXACT_FLOAT32 = 1 << 24  # whole numbers up to here are exact in float32


@dataclass(frozen=True)
class ClickGraph:
    """N news (row 0 is padding and has no edges) and E edges, N = `num_news`."""

    indptr: NDArray[np.int64]  # (N + 1,)
    indices: NDArray[np.int32]  # (E,) neighbours, row by row in the order above
    weights: NDArray[np.float32]  # (E,) users that made the step
    until: int | None = None
    """Seconds since 1970: every click in the graph is earlier. None: not known."""
    direction: Direction = "out"
    """out: a row holds what its readers read next; in: what they had read before (GLORY, GLoCIM); both: the sum."""
    min_weight: int = 1
    """Lighter edges are left out. The order of a row is that of the edges that are left."""

    @classmethod
    def build(
        cls,
        histories: Ragged,
        users: NDArray[np.integer] | None,
        num_news: int,
        *,
        direction: Direction = "out",
        until: int | None = None,
        min_weight: int = 1,
        times: NDArray[np.int64] | None = None,
        rules: CountingRules | None = None,
    ) -> ClickGraph:
        """Graph of all users' histories (oldest click first). One history counts for a user: the longest.

        `users` (M,): whose history each row is; None: M users. `times` (M,): seconds since 1970 before which the row's
        clicks happened (the impression's time); rows later than `until` are left out, and `until` is the latest of
        `times` if it is not given. Steps to the same news and from or to news 0 do not count, a step that a user
        repeats counts once. `rules=RELEASED` counts as the papers' code does.

        Raises InputError: ids outside 0..num_news-1, or arrays of different lengths.
        """
        check_direction(direction)
        if times is not None:
            histories, users, until = rows_until(histories, users, times, until)
        counted = count_pairs(histories, users, num_news, rules=rules)
        return cls.from_pairs(counted, direction=direction, until=until, min_weight=min_weight)

    @classmethod
    def from_pairs(
        cls, pairs: PairCounts, *, direction: Direction = "out", until: int | None = None, min_weight: int = 1
    ) -> ClickGraph:
        """Graph of counted steps. Raises InputError where a weight is too large to be kept exactly (2^24)."""
        check_direction(direction)
        if min_weight < 1:
            raise InputError(f"min_weight {min_weight}: give 1 (all edges) or more")
        keys, counts, num_news = pairs.keys, pairs.counts, pairs.num_news
        if min_weight > 1:
            keep = counts >= min_weight
            keys, counts = keys[keep], counts[keep]
        sources = (keys // num_news).astype(np.int32)
        targets = (keys - sources.astype(np.int64) * num_news).astype(np.int32)
        popularity = np.bincount(targets, weights=counts, minlength=num_news).astype(np.int64)
        if direction != "out":
            forward = sparse.csr_array(
                (counts, targets, _row_starts(sources, num_news)), shape=(num_news, num_news)
            )
            matrix = (forward.T if direction == "in" else forward + forward.T).tocsr()
            matrix.sort_indices()
            targets, counts = matrix.indices.astype(np.int32), matrix.data
            sources = np.repeat(np.arange(num_news, dtype=np.int32), np.diff(matrix.indptr))
        indptr = _row_starts(sources, num_news)
        order = order_rows(sources, targets, counts, popularity_rank(popularity))
        return cls(
            indptr=indptr,
            indices=targets[order],
            weights=counts[order].astype(np.float32),
            until=until,
            direction=direction,
            min_weight=min_weight,
        )

    def __len__(self) -> int:
        """News, the padding row included."""
        return len(self.indptr) - 1

    @property
    def num_news(self) -> int:
        """Rows, the padding row included."""
        return len(self)

    @property
    def num_edges(self) -> int:
        """Edges as stored: with `direction="both"` each pair of news twice."""
        return len(self.indices)

    @property
    def degrees(self) -> NDArray[np.int64]:
        """Neighbours of each news (N,)."""
        return np.diff(self.indptr)

    def neighbours(self, news: int) -> NDArray[np.int32]:
        """Neighbours of one news, the strongest first."""
        return self.indices[self.indptr[news] : self.indptr[news + 1]]

    def rows(self) -> NDArray[np.int32]:
        """(E,) the row of each edge."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.degrees)

    def forward_edges(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Sources, targets (read later) and weights of all edges, each (E,). `both`: every pair of news both ways."""
        rows = self.rows()
        return (
            (self.indices, rows, self.weights)
            if self.direction == "in"
            else (rows, self.indices, self.weights)
        )

    def with_num_news(self, num_news: int) -> ClickGraph:
        """The same edges over more news: those that came after the graph was built have none."""
        if num_news < len(self):
            raise InputError(f"the graph has {len(self)} news, more than the {num_news} that are wanted")
        more = np.full(num_news - len(self), self.indptr[-1])
        return replace(self, indptr=np.concatenate([self.indptr, more]))

    def require_before(self, time: int) -> None:
        """Refuse a graph that holds clicks later than `time` (seconds since 1970), which would leak what is judged.

        Raises InputError.
        """
        if self.until is not None and self.until > time:
            raise InputError(
                f"the graph holds clicks up to {_date(self.until)}, but the first impression to be judged is of "
                f"{_date(time)}: build it from earlier clicks"
            )


def check_direction(direction: str) -> None:
    """Raises InputError for anything but out, in, both."""
    if direction not in get_args(Direction):
        raise InputError(f"direction {direction!r}: give one of {', '.join(get_args(Direction))}")


def rows_until(
    histories: Ragged, users: NDArray[np.integer] | None, times: NDArray[np.int64], until: int | None
) -> tuple[Ragged, NDArray[np.integer] | None, int | None]:
    """Rows whose clicks all happened before `until`, and `until` itself (the latest time of all if None)."""
    if len(times) != len(histories):
        raise InputError(f"{len(times)} times for {len(histories)} histories: each history needs one time")
    if until is None:
        return histories, users, int(times.max()) if len(times) else None
    rows = np.flatnonzero(times <= until)
    return histories.take(rows), None if users is None else users[rows], until


def top_neighbours(graph: ClickGraph, k: int) -> NDArray[np.int32]:
    """(N, k) the first k neighbours of each news, 0 where there are fewer."""
    return top_table(graph, k)[0]


def top_table(graph: ClickGraph, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(N, k) the first k neighbours of each news and their weights, 0 where there are fewer."""
    if k < 1:
        raise InputError(f"{k} neighbours of each news: give 1 or more")
    filled = np.arange(k) < graph.degrees[:, None]
    taken = np.minimum(graph.degrees, k)
    starts = np.cumsum(taken) - taken
    places = np.repeat(graph.indptr[:-1] - starts, taken) + np.arange(int(taken.sum()))
    table, weights = np.zeros((len(graph), k), np.int32), np.zeros((len(graph), k), np.float32)
    table[filled], weights[filled] = graph.indices[places], graph.weights[places]
    return table, weights


def entity_graph(
    graph: ClickGraph, entities: Ragged, num_entities: int, *, per_news: int = 5, loops: bool = False
) -> ClickGraph:
    """Which entities readers of an entity go on to: every edge links the title entities of its two news.

    The first `per_news` entities of each title, weights times w and summed, then both directions summed (GLORY, section
    3.4). Entity 0 is unknown and has no edges; edges from an entity to itself, which the papers' code keeps, only with
    `loops`.

    Raises InputError: not one row of entities a news, or entities outside 0..num_entities-1.
    """
    if len(entities) < len(graph):
        raise InputError(
            f"entities of {len(entities)} news for a graph of {len(graph)}: each news needs a row"
        )
    if (
        len(entities.values)
        and not 0 <= int(entities.values.min()) <= int(entities.values.max()) < num_entities
    ):
        raise InputError(f"an entity outside 0 to {num_entities - 1}")
    if graph.direction == "both":
        raise InputError("an entity graph is made of a graph of one direction: it sums both itself")
    starts, lengths = entities.offsets[: len(graph)], np.minimum(entities.lengths[: len(graph)], per_news)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    columns = entities.values[np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], lengths)]
    known = (columns != NO_NEWS).astype(np.int64)
    has_entity = sparse.csr_array((known, columns, indptr), shape=(len(graph), num_entities))
    sources, targets, weights = graph.forward_edges()
    steps = sparse.coo_array(
        (weights.astype(np.int64), (sources, targets)), shape=(len(graph), len(graph))
    ).tocsr()
    linked = (has_entity.T @ steps @ has_entity).tocoo()
    keep = (linked.data != 0) & (loops | (linked.row != linked.col))
    keys = linked.row[keep].astype(np.int64) * num_entities + linked.col[keep]
    order = np.argsort(keys)
    pairs = PairCounts(keys[order], linked.data[keep][order], num_entities)
    return ClickGraph.from_pairs(pairs, direction="both", until=graph.until)


def _row_starts(sources: NDArray[np.integer], num_news: int) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=num_news))]).astype(np.int64)


def popularity_rank(popularity: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) place of each news when the most popular comes first and the smaller id among equals."""
    by_popularity = np.lexsort((np.arange(len(popularity)), -popularity))
    rank = np.empty(len(popularity), np.int64)
    rank[by_popularity] = np.arange(len(popularity))
    return rank


def order_rows(
    sources: NDArray[np.int32],
    targets: NDArray[np.int32],
    counts: NDArray[np.int64],
    rank: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Order of edges by row, then weight downwards, then `popularity_rank` of the neighbour; they come by row.

    Raises InputError where a count is too large to be kept exactly as float32 (2^24).
    """
    if not len(sources):
        return np.zeros(0, np.int64)
    heaviest, num_news = int(counts.max()), len(rank)
    if heaviest >= EXACT_FLOAT32:
        raise InputError(f"an edge of weight {heaviest}: weights up to {EXACT_FLOAT32 - 1} are exact")
    if (int(sources[-1]) + 1) * (heaviest + 1) >= (1 << 62) // num_news:
        return np.lexsort((rank[targets], -counts, sources))
    # Ranks are small numbers, so row, weight and rank fit one key: one sort instead of three.
    keys = (sources.astype(np.int64) * (heaviest + 1) + (heaviest - counts)) * num_news + rank[targets]
    return np.argsort(keys)


def _date(seconds: int) -> str:
    return np.datetime_as_string(np.datetime64(seconds, "s")).replace("T", " ")
