"""A log of clicks, who read what when, and its way to MIND's impressions.

Such a log has no impressions: nobody noted what else was on the page. They are made by a stated rule:

1. Of repeated clicks of one reader on one news the first counts.
2. A click is an impression (`each`), or the clicks of a reader between two pauses are one together (`session`). Its
   history are the reader's earlier clicks; clicks of the same session are not in it.
3. Its other candidates are news of clicks that were drawn at random from the whole log before that moment (or from its
   last `recent_hours`), so that they are as popular, and as fresh, as what readers clicked at that time. News that the
   reader clicks at any time are left out. Where too few clicks lie before, the log's first ones are drawn from; where
   even they give too few news, any news.
4. Candidates stand in random order.

The same seed gives the same impressions. Accuracy on such impressions compares models with each other, not with figures
on impressions that were really shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from multiway_core.errors import ConfigError, InputError
from multiway_core.files import replace_folder, write_text
from numpy.typing import NDArray

from multiway_recsys.data.mind import write_folder
from multiway_recsys.data.tables import NO_NEWS, Behaviors, News, Ragged

Grouping = Literal["each", "session"]
_FEWEST_BEFORE = 100  # clicks; with fewer, other candidates come from the log's first this many
_IMPRESSIONS_AT_ONCE = 20_000


@dataclass(frozen=True)
class ClickLog:
    """E clicks in the order of time, each of a user on a news."""

    news: News
    users: NDArray[np.int32]  # (E,) into user_ids
    user_ids: tuple[str, ...]
    items: NDArray[np.int32]  # (E,) rows of news
    times: NDArray[np.int64]  # (E,) seconds since 1970, ascending
    original_ids: tuple[str, ...] | None = None  # (news,) ids in the source, where they are no MIND ids

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class ImpressionRules:
    """How impressions are made of clicks (see the head of this file)."""

    grouping: Grouping = "each"
    session_minutes: float = 30.0  # a longer pause begins a new session
    negatives: int = 19  # other candidates of an impression
    recent_hours: float | None = None  # how far back other candidates were clicked; None: since the log began
    min_history: int = 1  # impressions with fewer earlier clicks are left out
    max_history: int = 200  # the latest clicks that a history keeps
    seed: int = 0

    def __post_init__(self) -> None:
        if self.grouping not in get_args(Grouping):
            raise ConfigError(f"grouping {self.grouping!r}; expected one of {', '.join(get_args(Grouping))}")
        if self.negatives < 1 or self.min_history < 0 or self.max_history < 1 or self.session_minutes <= 0:
            raise ConfigError(
                "negatives and max_history must be 1 or more, session_minutes and min_history positive"
            )
        if self.recent_hours is not None and self.recent_hours <= 0:
            raise ConfigError(f"recent_hours {self.recent_hours}; expected a positive number or nothing")


DEFAULT_RULES = ImpressionRules()


def sort_clicks(
    news: News,
    users: NDArray[np.integer],
    user_ids: tuple[str, ...],
    items: NDArray[np.integer],
    times: NDArray[np.integer],
    original_ids: tuple[str, ...] | None = None,
) -> ClickLog:
    """A log in the order of time; clicks of the same second keep their order."""
    order = np.argsort(times, kind="stable")
    return ClickLog(
        news,
        users[order].astype(np.int32),
        user_ids,
        items[order].astype(np.int32),
        times[order].astype(np.int64),
        original_ids,
    )


def make_impressions(log: ClickLog, rules: ImpressionRules = DEFAULT_RULES) -> Behaviors:
    """Impressions of a log by the rules, in the order of time, numbered from 1.

    Raises InputError: the log gives none (too few clicks or news).
    """
    users, items, times = _first_clicks(log)
    order = np.lexsort((np.arange(len(users)), users))  # by reader, then time
    mine, clicked, when = users[order], items[order], times[order]
    is_new_reader = np.ones(len(mine), np.bool_)
    is_new_reader[1:] = mine[1:] != mine[:-1]
    begins = is_new_reader.copy()
    if rules.grouping == "each":
        begins[:] = True
    else:
        begins[1:] |= np.diff(when) > rules.session_minutes * 60
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(mine))
    first_of_reader = np.maximum.accumulate(np.where(is_new_reader, np.arange(len(mine)), 0))[starts]
    chosen = np.flatnonzero(starts - first_of_reader >= rules.min_history)
    chosen = chosen[np.lexsort((starts[chosen], when[starts[chosen]]))]
    starts, ends, first_of_reader = starts[chosen], ends[chosen], first_of_reader[chosen]

    histories = _ranges(clicked, np.maximum(first_of_reader, starts - rules.max_history), starts)
    positives = _ranges(clicked, starts, ends)
    random = np.random.default_rng(rules.seed)
    negatives = _negatives(items, times, users, mine[starts], when[starts], len(log.news), rules, random)
    candidates, labels = _shuffled(positives, negatives, random)
    keep = np.flatnonzero(negatives.lengths > 0)
    behaviors = Behaviors(
        impression_ids=("",) * len(starts),
        users=mine[starts],
        user_ids=log.user_ids,
        times=when[starts],
        histories=histories,
        candidates=candidates,
        labels=labels,
    ).take(keep)
    if not len(behaviors):
        raise InputError(
            f"{len(users):,} clicks of {len(log.user_ids):,} readers on {len(log.news) - 1:,} news give no impression; "
            f"expected a reader with more than {rules.min_history} clicks, and news that others read"
        )
    numbers = tuple(str(number + 1) for number in range(len(behaviors)))
    return Behaviors(**{**vars(behaviors), "impression_ids": numbers})


def split_by_time(
    behaviors: Behaviors, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> dict[str, Behaviors]:
    """Train, dev and test, one after the other in time; impressions of one second stay together.

    Raises ConfigError: fractions that are negative or do not sum to 1.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ConfigError(f"split fractions {fractions}; expected three that sum to 1")
    count = len(behaviors)
    order = np.argsort(behaviors.times, kind="stable")
    times = behaviors.times[order]
    cuts = []
    for share in (fractions[0], fractions[0] + fractions[1]):
        place = round(share * count)
        # A cut lies before all impressions of its moment, so that nothing trains on what is evaluated.
        cuts.append(int(np.searchsorted(times, times[place], side="left")) if place < count else count)
    return {
        "train": behaviors.take(order[: cuts[0]]),
        "dev": behaviors.take(order[cuts[0] : cuts[1]]),
        "test": behaviors.take(order[cuts[1] :]),
    }


def write_splits(folder: Path, log: ClickLog, splits: dict[str, Behaviors]) -> None:
    """Write `train/`, `dev/` and `test/` as MIND folders (a split without impressions is left out), all or nothing.

    Where the source's ids are others, `original_ids.tsv` tells them: MIND id, TAB, id in the source.

    Raises:
        OutputError: it cannot be written, or `folder` is there and not empty.
        InputError: as `write_folder`.
    """
    with replace_folder(Path(folder)) as temporary:
        for name, behaviors in splits.items():
            if len(behaviors):
                write_folder(temporary / name, log.news, behaviors)
        if log.original_ids is not None:
            pairs = zip(log.news.ids[1:], log.original_ids[1:], strict=True)
            lines = (f"{name}\t{original}\n" for name, original in pairs)
            write_text(temporary / "original_ids.tsv", "".join(lines))


def _first_clicks(log: ClickLog) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    known = np.flatnonzero(log.items != NO_NEWS)
    keys = log.users[known].astype(np.int64) * len(log.news) + log.items[known]
    _, first = np.unique(keys, return_index=True)
    chosen = known[np.sort(first)]
    return log.users[chosen], log.items[chosen], log.times[chosen]


def _ranges(values: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Ragged:
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Ragged(values[places], offsets)


def _negatives(
    items: NDArray[np.int32],
    times: NDArray[np.int64],
    users: NDArray[np.int32],
    readers: NDArray[np.int32],
    moments: NDArray[np.int64],
    num_news: int,
    rules: ImpressionRules,
    random: np.random.Generator,
) -> Ragged:
    """Other candidates for impressions of `readers` at `moments`."""
    seen = np.sort(users.astype(np.int64) * num_news + items)
    newest = np.searchsorted(times, moments, side="left")
    oldest = np.zeros(len(moments), np.int64)
    if rules.recent_hours is not None:
        oldest = np.searchsorted(times, moments - int(rules.recent_hours * 3600), side="left")
    few = newest - oldest < min(_FEWEST_BEFORE, len(items))
    oldest[few] = np.maximum(newest[few] - _FEWEST_BEFORE, 0)
    newest[few] = np.minimum(oldest[few] + _FEWEST_BEFORE, len(items))
    parts = []
    draws = 3 * rules.negatives + 8
    for start in range(0, len(moments), _IMPRESSIONS_AT_ONCE):
        rows = slice(start, start + _IMPRESSIONS_AT_ONCE)
        low, high = oldest[rows, None], newest[rows, None]
        places = low + (random.random((len(low), draws)) * (high - low)).astype(np.int64)
        drawn = _unseen(items[places], readers[rows], seen, num_news)
        rest = np.flatnonzero((drawn != NO_NEWS).sum(axis=1) < rules.negatives)
        more = np.zeros((len(drawn), draws), np.int32)
        if rest.size and num_news > 1:
            more[rest] = random.integers(1, num_news, (len(rest), draws))
            drawn = _unseen(np.concatenate([drawn, more], axis=1), readers[rows], seen, num_news)
        is_good = drawn != NO_NEWS
        is_good &= np.cumsum(is_good, axis=1) <= rules.negatives
        parts.append((drawn[is_good], is_good.sum(axis=1)))
    lengths = np.concatenate([lengths for _, lengths in parts]) if parts else np.zeros(0, np.int64)
    values = np.concatenate([values for values, _ in parts]) if parts else np.zeros(0, np.int32)
    return Ragged(values.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _unseen(
    drawn: NDArray[np.int32], readers: NDArray[np.int32], seen: NDArray[np.int64], num_news: int
) -> NDArray[np.int32]:
    """`drawn` (rows, draws) with 0 in place of repeats in a row and of what the row's reader clicks at any time."""
    keys = readers[:, None].astype(np.int64) * num_news + drawn
    places = np.minimum(np.searchsorted(seen, keys), len(seen) - 1)
    result = np.where(seen[places] == keys, NO_NEWS, drawn).astype(np.int32)
    order = np.argsort(result, axis=1, kind="stable")
    ordered = np.take_along_axis(result, order, axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = NO_NEWS  # of equal ones the first drawn stays
    np.put_along_axis(result, order, ordered, axis=1)
    return result


def _shuffled(
    positives: Ragged, negatives: Ragged, random: np.random.Generator
) -> tuple[Ragged, NDArray[np.int8]]:
    rows = np.concatenate([np.repeat(np.arange(len(part)), part.lengths) for part in (positives, negatives)])
    values = np.concatenate([positives.values, negatives.values])
    labels = np.repeat(np.array([1, 0], np.int8), [len(positives.values), len(negatives.values)])
    order = np.lexsort((random.random(len(rows)), rows))
    offsets = np.concatenate([[0], np.cumsum(positives.lengths + negatives.lengths)]).astype(np.int64)
    return Ragged(values[order], offsets), labels[order]
