"""Popularity statistics of a news at a moment: clicks and impressions strictly before it, and its age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.data.tables import Behaviors

NUM_STATISTICS = 5
_HOUR = 3600
_DAY = 24 * _HOUR


@dataclass(frozen=True)
class ClickStatistics:
    """Clicks and showings of training impressions, sorted by (news, time), so that any moment can be looked up.

    A news' first showing stands in for its publication where the source does not tell that.
    """

    click_offsets: NDArray[np.int64]  # (N + 1,) into click_times
    click_times: NDArray[np.int64]  # seconds, ascending within a news
    show_offsets: NDArray[np.int64]
    show_times: NDArray[np.int64]
    published: NDArray[np.int64]  # (N,) seconds; 0 = not known

    @classmethod
    def build(
        cls,
        logs: Behaviors | Sequence[Behaviors],
        num_news: int,
        *,
        published: NDArray[np.int64] | None = None,
    ) -> ClickStatistics:
        """From labelled impressions. Judged ones may be among them: a moment only knows what lies before it."""
        parts = [logs] if isinstance(logs, Behaviors) else logs
        times = np.concatenate([np.repeat(part.times, part.candidates.lengths) for part in parts])
        news = np.concatenate([part.candidates.values for part in parts])
        clicked = np.concatenate(
            [
                part.labels == 1 if part.labels is not None else np.zeros(len(part.candidates.values), bool)
                for part in parts
            ]
        )
        show_offsets, show_times = _by_news(news, times, num_news)
        click_offsets, click_times = _by_news(news[clicked], times[clicked], num_news)
        first = np.zeros(num_news, np.int64)
        shown = np.diff(show_offsets) > 0
        first[shown] = show_times[show_offsets[:-1][shown]]
        known = first if published is None else np.where(published > 0, published, first)
        return cls(click_offsets, click_times, show_offsets, show_times, known)

    def plus(self, log: Behaviors) -> ClickStatistics:
        """With the impressions of one more log."""
        more = ClickStatistics.build(log, len(self.published))
        clicks = _merged(self.click_offsets, self.click_times, more.click_offsets, more.click_times)
        shows = _merged(self.show_offsets, self.show_times, more.show_offsets, more.show_times)
        published = np.where(self.published > 0, self.published, more.published)
        return ClickStatistics(*clicks, *shows, published)

    def at(self, news: NDArray[np.integer], times: NDArray[np.int64]) -> NDArray[np.float32]:
        """log(1 + .) of clicks and showings in the last day, of all clicks, of the age in hours, and whether the age
        is known: (len(news), 5) float32. Only what happened before ``times`` counts."""
        rows = np.asarray(news, np.int64)
        clicks = _count_before(self.click_offsets, self.click_times, rows, times)
        recent_clicks = clicks - _count_before(self.click_offsets, self.click_times, rows, times - _DAY)
        shows = _count_before(self.show_offsets, self.show_times, rows, times)
        recent_shows = shows - _count_before(self.show_offsets, self.show_times, rows, times - _DAY)
        published = self.published[rows]
        known = (published > 0) & (published <= times)
        age = np.where(known, times - published, 0) / _HOUR
        columns = [np.log1p(recent_clicks), np.log1p(recent_shows), np.log1p(clicks), np.log1p(age), known]
        return np.stack(columns, axis=1).astype(np.float32)


def _by_news(
    news: NDArray[np.int32], times: NDArray[np.int64], num_news: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.lexsort((times, news))
    offsets = np.zeros(num_news + 1, np.int64)
    np.cumsum(np.bincount(news, minlength=num_news), out=offsets[1:])
    return offsets, times[order]


def _count_before(
    offsets: NDArray[np.int64], times: NDArray[np.int64], news: NDArray[np.int64], moments: NDArray[np.int64]
) -> NDArray[np.int64]:
    # Bisection in all rows at once: the first place of each row whose time is not before the moment.
    low, high = offsets[news], offsets[news + 1]
    start = low
    while True:
        open_rows = low < high
        if not open_rows.any():
            return low - start
        middle = (low + high) // 2
        before = np.zeros(len(news), bool)
        before[open_rows] = times[middle[open_rows]] < moments[open_rows]
        low = np.where(open_rows & before, middle + 1, low)
        high = np.where(open_rows & ~before, middle, high)


def _merged(
    offsets: NDArray[np.int64],
    times: NDArray[np.int64],
    more_offsets: NDArray[np.int64],
    more_times: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and times of both, sorted by news and time."""
    span = int(max(times.max(initial=0), more_times.max(initial=0))) + 1
    rows = np.arange(len(offsets) - 1) * span
    known = np.repeat(rows, np.diff(offsets)) + times
    added = np.repeat(rows, np.diff(more_offsets)) + more_times
    return offsets + more_offsets, np.insert(times, np.searchsorted(known, added, side="right"), more_times)
