"""Simulated impressions of returning readers, and their clicks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.data.tables import Ragged
from multiway_recsys.simulator.config import PortalConfig
from multiway_recsys.simulator.press import DAY, NOBODY, Press
from multiway_recsys.simulator.readers import NO_STORY, Clicks, Readers
from multiway_recsys.simulator.stories import Stories

OWN_PER_STORY = 2
PER_FAVOURITE = 2
OF_OTHERS = 10
MUCH_READ = 1
REGULARS = 0.5  # share of the regulars that are logged in a window

# click = sigmoid(BASE + INTEREST * relevance + QUALITY * log quality) * (1 + position) ** POSITION
BASE, INTEREST, QUALITY, POSITION = -3.4, 5.2, 0.5, -0.3
INDIFFERENT = 0.35  # similarity of topics below which an article is of no interest


@dataclass(frozen=True)
class Shown:
    """M impressions of a window in the order of the log, candidates shuffled as MIND's are.

    users, days, times (seconds since the first day): (M,). candidates: M rows of the bank's articles. Aligned with
    the candidates: labels; position as displayed, 0 is the top; relevance 0..1; chance of a click; the story that is
    about the candidate's topic on the day (NO_STORY: none) and the community that follows it (-1: none).
    """

    users: NDArray[np.int64]
    days: NDArray[np.int64]
    times: NDArray[np.int64]
    candidates: Ragged
    labels: NDArray[np.int8]
    position: NDArray[np.int32]
    relevance: NDArray[np.float32]
    chance: NDArray[np.float32]
    story: NDArray[np.int32]
    community: NDArray[np.int32]

    def clicks(self) -> Clicks:
        """The clicked candidates, one a second."""
        rows = np.repeat(np.arange(len(self.users)), self.candidates.lengths)
        within = np.arange(len(rows)) - self.candidates.offsets[rows]
        at = np.flatnonzero(self.labels)
        return Clicks(
            users=self.users[rows[at]],
            times=(self.times[rows] + within)[at],
            articles=self.candidates.values[at].astype(np.int64),
            stories=self.story[at].astype(np.int64),
        )


def show(
    config: PortalConfig,
    split: str,
    stories: Stories,
    press: Press,
    readers: Readers,
    topics: NDArray[np.int32],
    topic_vectors: NDArray[np.float32],
    rng: np.random.Generator,
) -> Shown:
    """Impressions of one split, by windows: of readers who come back, of some regulars, and of readers who are in the
    middle of their visits. A reader's are of one window, so that several impressions share a history.
    """
    users, days, left = [], [], []
    for start, stop in config.windows(split):
        season = config.season(start)
        returns, came, left_at = (table[:, season] for table in (readers.returns, readers.came, readers.left))
        back = np.flatnonzero((returns >= start) & (returns < stop))
        active = np.flatnonzero((came >= 0) & (came < start) & (left_at >= start) & (returns >= stop))
        chosen = rng.random(config.num_users)
        regulars = np.flatnonzero(readers.regular & (chosen < REGULARS))
        groups = (
            (back, returns[back], np.full(len(back), stop), left_at[back], config.impressions_per_user),
            (regulars, *_within(regulars, start, stop), config.impressions_per_user),
            (active, *_within(active, start, stop), config.active_impressions),
        )
        for readers_of, first, end, last_seen, mean in groups:
            number = rng.poisson(mean, len(readers_of))
            users.append(readers_of.repeat(number))
            left.append(last_seen.repeat(number))
            days.append(rng.integers(first.repeat(number), end.repeat(number)))
    return _shown(
        config, stories, press, readers, topics, topic_vectors, rng,
        *(np.concatenate(part) for part in (users, days, left)),
    )  # fmt: skip


def _within(
    readers: NDArray[np.int64], start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """First and end of a window, and the day before it, once a reader."""
    return np.full(len(readers), start), np.full(len(readers), stop), np.full(len(readers), start - 1)


def _shown(
    config: PortalConfig,
    stories: Stories,
    press: Press,
    readers: Readers,
    topics: NDArray[np.int32],
    topic_vectors: NDArray[np.float32],
    rng: np.random.Generator,
    users: NDArray[np.int64],
    days: NDArray[np.int64],
    left: NDArray[np.int64],
) -> Shown:
    order = rng.permutation(len(users))
    users, days, left = users[order], days[order], left[order]
    slates = _slates(config, stories, press, readers, users, days, left, rng)
    keep = (slates != NOBODY).sum(1) >= 2
    users, days, slates = users[keep], days[keep], slates[keep]

    shown = slates != NOBODY
    rows, articles = np.nonzero(shown)[0], slates[shown]
    position = np.argsort(np.argsort(np.where(shown, rng.random(slates.shape), 2.0), axis=1), axis=1)[shown]
    per = config.stories_per_community
    own = stories.community[users, config.season(days)][:, None] * per + np.arange(per)
    interest = np.clip((topic_vectors @ topic_vectors.T - INDIFFERENT) / (1 - INDIFFERENT), 0, 1)
    today = stories.topic[own, days[:, None]]
    liked = np.concatenate([today, readers.favourites[users]], axis=1) if config.loyalty else today
    relevance = interest[liked[rows], topics[articles][:, None]].max(1)
    logit = BASE + INTEREST * relevance + QUALITY * np.log(press.quality[articles])
    chance = (1 + position) ** POSITION / (1 + np.exp(-logit))
    place_of = np.full((config.days, len(topic_vectors)), -1)
    for day in np.unique(days):
        place_of[day, stories.topic[:, day]] = np.arange(config.num_stories)
    place = place_of[days[rows], topics[articles]]
    return Shown(
        users=users,
        days=days,
        times=((days + 0.5 + 0.45 * rng.random(len(users))) * DAY).astype(np.int64),
        candidates=Ragged(
            articles.astype(np.int32), np.concatenate([[0], np.cumsum(shown.sum(1))]).astype(np.int64)
        ),
        labels=(rng.random(len(articles)) < chance).astype(np.int8),
        position=position.astype(np.int32),
        relevance=relevance.astype(np.float32),
        chance=chance.astype(np.float32),
        story=np.where(place >= 0, stories.story[place, days[rows]], NO_STORY).astype(np.int32),
        community=np.where(place >= 0, place // per, -1).astype(np.int32),
    )


def _slates(
    config: PortalConfig,
    stories: Stories,
    press: Press,
    readers: Readers,
    users: NDArray[np.int64],
    days: NDArray[np.int64],
    left: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """(M, candidates) different articles of each impression in random order, NOBODY behind them.

    Fresh articles about the own stories' topics; about the topics at which the reader left them; about the favourite
    topics; about what other communities read today; what everybody reads; any fresh ones until the slate is full.
    """
    per = config.stories_per_community
    community = stories.community[users, config.season(days)]
    columns = []
    for number in range(per):
        place = community * per + number
        now = stories.topic[place, days]
        columns.append(press.fresh.some((now, days), OWN_PER_STORY, rng))
        if config.hard_negatives:
            left_at = stories.topic[place, left]
            old = press.fresh.some((left_at, days), config.hard_negatives, rng)
            columns.append(np.where((left_at != now)[:, None], old, NOBODY))
    if config.loyalty:
        columns += [
            press.fresh.some((liked, days), PER_FAVOURITE, rng) for liked in readers.favourites[users].T
        ]
    order = rng.random((len(users), config.num_stories))
    order[np.arange(config.num_stories) // per == community[:, None]] = 2.0
    others = np.argsort(order, axis=1)[:, : min(OF_OTHERS, config.num_stories - per)]
    columns += [press.fresh.some((stories.topic[place, days], days), 1, rng) for place in others.T]
    columns.append(press.much_read.some((days,), MUCH_READ, rng))
    columns.append(press.recent.some((days,), config.candidates, rng))
    slates = np.concatenate(columns, axis=1)

    # A repeated article counts at its first place.
    order_by_article = np.argsort(slates, axis=1, kind="stable")
    ordered = np.take_along_axis(slates, order_by_article, axis=1)
    repeated = np.zeros(slates.shape, bool)
    np.put_along_axis(repeated, order_by_article[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    valid = (slates != NOBODY) & ~repeated
    first = np.argsort(~valid, axis=1, kind="stable")[:, : config.candidates]
    slates = np.where(
        np.take_along_axis(valid, first, axis=1), np.take_along_axis(slates, first, axis=1), NOBODY
    )
    shuffle = np.argsort(np.where(slates == NOBODY, 2.0, rng.random(slates.shape)), axis=1)
    return np.take_along_axis(slates, shuffle, axis=1)
