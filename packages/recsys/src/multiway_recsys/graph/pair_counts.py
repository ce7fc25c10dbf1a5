"""Counting steps: how many users read news j after news i, at most `window` clicks later.

The one definition that the click graph (window 1), the co-readers (window 20), the streaming build and the Spark build
share. All of it is sorting and adding up, so the result does not depend on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from multiway_core.errors import InputError
from numpy.typing import NDArray
from scipy import sparse

from multiway_recsys.data.tables import NO_NEWS, Ragged

Int64 = NDArray[np.int64]

PAIRS_AT_ONCE = 1 << 22  # pairs that are counted together, about 50 bytes each
LARGEST_NUM_NEWS = 1 << 31


@dataclass(frozen=True)
class CountingRules:
    """What counts as a step. The defaults are ours; `RELEASED` is what GLORY and GLoCIM count."""

    history: Literal["longest", "first", "every"] = "longest"
    """Which of a user's rows stands for the user: a log that grows repeats the older clicks in each row."""
    repeats: bool = False
    """Count a step as often as one user makes it; otherwise once, as bots and refreshed pages repeat steps."""
    loops: bool = False
    """Keep steps from a news to itself."""


RELEASED = CountingRules(history="first", repeats=True, loops=True)


@dataclass(frozen=True)
class PairCounts:
    """Distinct (source, target) pairs in ascending order, with their counts."""

    keys: Int64  # (pairs,) source * num_news + target, ascending
    counts: Int64  # (pairs,)
    num_news: int

    @property
    def sources(self) -> Int64:
        """(pairs,) the news read first."""
        return self.keys // self.num_news

    @property
    def targets(self) -> Int64:
        """(pairs,) the news read later."""
        return self.keys % self.num_news


def check_histories(histories: Ragged, users: NDArray[np.integer] | None, num_news: int) -> None:
    """Raises InputError for ids outside 0..num_news-1 and for a wrong number of users."""
    if not 1 <= num_news < LARGEST_NUM_NEWS:
        raise InputError(
            f"{num_news} news: a graph holds 1 to {LARGEST_NUM_NEWS - 1}, the padding row 0 included"
        )
    if users is not None and len(users) != len(histories):
        raise InputError(f"{len(users)} users for {len(histories)} histories: each history needs one user")
    values = histories.values
    if len(values):
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= num_news:
            wrong = low if low < 0 else high
            row = int(np.searchsorted(histories.offsets, np.flatnonzero(values == wrong)[0], "right")) - 1
            raise InputError(
                f"history {row} holds news {wrong}; with {num_news} news the ids are 0 to {num_news - 1}"
            )


def rows_of_users(histories: Ragged, users: NDArray[np.integer] | None, rules: CountingRules) -> Int64:
    """Rows that are counted, one a user (`users` None: every row is a user of its own), ascending by user.

    Of equally long histories the one that is lexicographically largest is taken, so shuffling the rows changes nothing.
    """
    if users is None or rules.history == "every":
        return np.arange(len(histories))
    if rules.history == "first":
        return np.unique(users, return_index=True)[1].astype(np.int64)
    lengths = histories.lengths
    order = np.lexsort((lengths, users))
    sorted_users = users[order]
    last_of_user = np.flatnonzero(np.append(sorted_users[1:] != sorted_users[:-1], True)[: len(order)])
    longest = np.repeat(lengths[order[last_of_user]], np.diff(last_of_user, prepend=-1))
    rows = order[lengths[order] == longest]  # grouped by user: the rows of that length
    return _largest_by_content(histories, rows, users[rows])


def _largest_by_content(histories: Ragged, rows: Int64, groups: NDArray[np.integer]) -> Int64:
    """Of each run of equal `groups` the row whose values are lexicographically largest; lengths in a run are equal."""
    starts, lengths = histories.offsets[:-1], histories.lengths
    settled: list[Int64] = []
    place = 0
    while len(rows):
        first = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
        sizes = np.diff(first, append=len(rows))
        # A run is settled when one row is left, or when the rows left are equal to the end.
        done = np.repeat((sizes == 1) | (lengths[rows[first]] <= place), sizes)
        is_first = np.zeros(len(rows), bool)
        is_first[first] = True
        settled.append(rows[done & is_first])
        rows, groups = rows[~done], groups[~done]
        if not len(rows):
            break
        values = histories.values[starts[rows] + place]
        first = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
        largest = np.repeat(np.maximum.reduceat(values, first), np.diff(first, append=len(rows)))
        keep = values == largest
        rows, groups = rows[keep], groups[keep]
        place += 1
    chosen = np.concatenate(settled) if settled else np.zeros(0, np.int64)
    return np.sort(chosen)


def count_pairs(
    histories: Ragged,
    users: NDArray[np.integer] | None,
    num_news: int,
    *,
    window: int = 1,
    rules: CountingRules | None = None,
) -> PairCounts:
    """How many users read the target at most `window` clicks after the source. Steps from or to news 0 do not count.

    Raises InputError: ids out of range, or not one user a row.
    """
    parts = list(iter_pair_counts(histories, users, num_news, window=window, rules=rules))
    return PairCounts(
        np.concatenate([part.keys for part in parts]) if parts else np.zeros(0, np.int64),
        np.concatenate([part.counts for part in parts]) if parts else np.zeros(0, np.int64),
        num_news,
    )


def iter_pair_counts(
    histories: Ragged,
    users: NDArray[np.integer] | None,
    num_news: int,
    *,
    window: int = 1,
    rules: CountingRules | None = None,
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> Iterator[PairCounts]:
    """`count_pairs` in parts of ascending sources, so that memory holds about `pairs_at_once` pairs at a time."""
    check_histories(histories, users, num_news)
    if window < 1:
        raise InputError(f"a window of {window} clicks: give 1 (the next click) or more")
    rules = rules or CountingRules()
    rows = rows_of_users(histories, users, rules)
    if len(rows) < len(histories) or users is not None:
        histories = histories.take(rows)
    events = _Events.of(histories, num_news, window, rules)
    clicks = np.concatenate([[0], np.cumsum(np.bincount(events.values[events.places], minlength=num_news))])
    for low, high in _balanced(events.pairs_of_sources(num_news), pairs_at_once):
        places = events.places[clicks[low] : clicks[high]]
        if len(places):
            yield _count_sources(events, places, low, high - low, num_news, window, rules)


@dataclass(frozen=True)
class _Events:
    """Clicks of all histories, each history followed by `window` zeros: what lies behind its end is no news."""

    values: NDArray[np.int32]  # (places,)
    places: Int64  # (sources,) where the clicks that have a next one stand, ordered by news
    steps: Int64  # (sources,) later clicks within the window
    first: Int64 | None  # (places,) where this user read this news first; None where that is nowhere earlier
    repeated: NDArray[np.bool_] | None  # (places,) whether this user reads this news more than once
    longest: int  # places from the first to the last click of a history, at most

    @classmethod
    def of(cls, histories: Ragged, num_news: int, window: int, rules: CountingRules) -> _Events:
        lengths = histories.lengths
        places = np.arange(len(histories.values)) + np.repeat(np.arange(len(histories)) * window, lengths)
        values = np.zeros(len(histories.values) + len(histories) * window + 1, np.int32)
        values[places] = histories.values
        ends = np.repeat(histories.offsets[1:], lengths)
        steps = np.minimum(ends - np.arange(len(histories.values)) - 1, window)
        first = repeated = None
        earlier = np.arange(0) if rules.repeats else _first_reading(histories, num_news)
        again = np.flatnonzero(earlier != np.arange(len(earlier)))
        if len(again):
            first, repeated = np.arange(len(values)), np.zeros(len(values), bool)
            first[places[again]] = places[earlier[again]]
            repeated[places[again]] = repeated[places[earlier[again]]] = True
        sources = np.flatnonzero((steps > 0) & (histories.values != NO_NEWS))
        sources = sources[np.argsort(histories.values[sources], kind="stable")]
        longest = int(lengths.max(initial=1))
        return cls(values, places[sources], steps[sources], first, repeated, longest)

    def pairs_of_sources(self, num_news: int) -> NDArray[np.float64]:
        """(N,) pairs that each news is the source of, at most."""
        sources = self.values[self.places]
        return np.bincount(sources, weights=self.steps, minlength=num_news).astype(np.float64)


def _first_reading(histories: Ragged, num_news: int) -> Int64:
    """(events,) the place where the event's user read the event's news first: its own place for almost all events."""
    values, lengths = histories.values, histories.lengths
    first = np.arange(len(values))
    if len(histories) >= (1 << 62) // num_news:
        raise InputError(
            f"{len(histories)} histories of {num_news} news are too many at once: build in parts"
        )
    keys = np.repeat(np.arange(len(histories)), lengths) * num_news + values
    in_order = np.sort(
        keys
    )  # a sort of values is several times faster than one of places, which few rows need
    repeating = np.unique(in_order[1:][in_order[1:] == in_order[:-1]] // num_news)
    if not len(repeating):
        return first
    is_repeating = np.zeros(len(histories), bool)
    is_repeating[repeating] = True
    places = np.flatnonzero(np.repeat(is_repeating, lengths))
    order = places[np.argsort(keys[places])]
    run_starts = np.flatnonzero(np.append(True, keys[order[1:]] != keys[order[:-1]]))
    first[order] = np.repeat(np.minimum.reduceat(order, run_starts), np.diff(run_starts, append=len(order)))
    return first


def _balanced(per_source: NDArray[np.float64], limit: int) -> Iterator[tuple[int, int]]:
    """Ranges of sources with at most `limit` pairs each (one source may have more)."""
    total = np.cumsum(per_source)
    low, before = 0, 0.0
    while low < len(per_source):
        high = max(int(np.searchsorted(total, before + limit, "right")), low + 1)
        yield low, high
        low, before = high, float(total[high - 1])


def _count_sources(
    events: _Events,
    places: Int64,
    low: int,
    num_sources: int,
    num_news: int,
    window: int,
    rules: CountingRules,
) -> PairCounts:
    """Count the pairs whose sources stand at `places`: news low .. low + num_sources - 1."""
    sources = events.values[places]
    # (sources, window): what was read next, zeros behind the end.
    later = np.lib.stride_tricks.sliding_window_view(events.values, window)[places + 1]
    keep = later != NO_NEWS
    if not rules.loops:
        keep &= later != sources[:, None]
    if events.repeated is not None:
        # Only where a user reads one of the two news again can the same step come twice.
        again = np.lib.stride_tricks.sliding_window_view(events.repeated, window)[places + 1]
        again = (again | events.repeated[places][:, None]) & keep
        click, lag = np.nonzero(again)
        once = _once_a_user(events, places[click], places[click] + 1 + lag)
        keep &= ~again
    rows = np.broadcast_to((sources - low)[:, None], keep.shape)[keep]
    columns = later[keep]
    if events.repeated is not None:
        rows = np.concatenate([rows, events.values[once[0]] - low])
        columns = np.concatenate([columns, events.values[once[1]]])
    pairs = sparse.coo_array((np.ones(len(rows), np.int32), (rows, columns)), shape=(num_sources, num_news))
    # To columns and back is two counting sorts, several times faster than a sort of keys. The flag keeps SciPy from
    # adding up equal pairs (by sorting each row) before that.
    pairs.has_canonical_format = True
    counts = pairs.tocsc().tocsr()
    counts.sum_duplicates()
    row = low + np.repeat(np.arange(num_sources), np.diff(counts.indptr))
    return PairCounts(row * num_news + counts.indices, counts.data.astype(np.int64), num_news)


def _once_a_user(events: _Events, sources: Int64, targets: Int64) -> tuple[Int64, Int64]:
    """The given pairs of places, each step of a user once. The place of first reading names user and news at once."""
    assert events.first is not None
    first, stride = events.first, 2 * events.longest + 1
    keys = first[sources] * stride + (first[targets] - first[sources] + events.longest)
    keys.sort()
    keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
    sources = keys // stride
    return sources, sources + keys % stride - events.longest
