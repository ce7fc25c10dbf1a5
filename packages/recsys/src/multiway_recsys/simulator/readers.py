"""Readers: their visits and their organic clicks, which form the histories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.simulator.config import PortalConfig
from multiway_recsys.simulator.press import DAY, NOBODY, Press
from multiway_recsys.simulator.stories import Stories

SPELL_DAYS = (4, 9)  # minimum and maximum length of a period of visits
TAKING_PART = 0.7  # share of the other readers that are active in a season
FAVOURITES = 2  # topics of a reader
REGULAR_VISITS = 0.7  # of a regular, a day
DEV_SHARE = 0.25  # of those who return in the last season, for dev; the others return for test
NO_STORY = -1


@dataclass(frozen=True)
class Clicks:
    """Clicks in any order: user, seconds since the first day, article (row of the bank), story (or NO_STORY)."""

    users: NDArray[np.int64]
    times: NDArray[np.int64]
    articles: NDArray[np.int64]
    stories: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: list[Clicks]) -> Clicks:
        """All clicks in order of user and time."""
        users, times, articles, stories = (
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("users", "times", "articles", "stories")
        )
        order = np.lexsort((articles, times, users))
        return cls(users[order], times[order], articles[order], stories[order])


@dataclass(frozen=True)
class Readers:
    """returns: (users, seasons) the day of a reader's return after an absence; -1 for never.

    came, left: (users, seasons) first and last day of the visits before the absence. regular: (users,) readers
    without absences.
    taste: (users, stories_per_community) preference for each of the community's stories, sums to one.
    favourites: (users, FAVOURITES) topics of constant interest.
    """

    returns: NDArray[np.int64]
    came: NDArray[np.int64]
    left: NDArray[np.int64]
    regular: NDArray[np.bool_]
    taste: NDArray[np.float64]
    favourites: NDArray[np.int64]


def read(
    config: PortalConfig, stories: Stories, press: Press, rng: np.random.Generator
) -> tuple[Readers, Clicks]:
    """Simulate visits and clicks before each reader's absence (regulars: on all days)."""
    users, seasons = config.num_users, config.train_seasons + 1
    taste = rng.dirichlet(np.full(config.stories_per_community, 2.0), users)
    regular = rng.random(users) < config.regulars
    favourites = rng.integers(0, len(press.fresh.articles), (users, FAVOURITES))
    returns, came, left = (np.full((users, seasons), -1) for _ in range(3))
    parts = []
    all_days = np.arange(config.days)
    for season in range(seasons):
        first, stop = season * config.season_days, (season + 1) * config.season_days
        day = _return_days(config, season, rng)
        last = day - 1 - rng.integers(0, config.dormancy, users)
        length = rng.integers(SPELL_DAYS[0], SPELL_DAYS[1] + 1, users)
        taking_part = (rng.random(users) < TAKING_PART) & ~regular
        for found, values in ((returns, day), (came, last - length + 1), (left, last)):
            found[taking_part, season] = values[taking_part]
        in_spell = (all_days <= last[:, None]) & (all_days > (last - length)[:, None]) & taking_part[:, None]
        comes = np.where(regular[:, None], rng.random((users, config.days)) < REGULAR_VISITS, in_spell)
        comes &= (all_days >= first) & (all_days < stop)
        visitors, days = np.nonzero(comes)
        number = 1 + rng.poisson(config.reads_a_day - 1, len(visitors))
        parts.append(
            _clicks(
                config,
                stories,
                press,
                taste,
                favourites,
                visitors.repeat(number),
                days.repeat(number),
                season,
                rng,
            )
        )
    return Readers(returns, came, left, regular, taste, favourites), Clicks.joined(parts)


def _return_days(config: PortalConfig, season: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A day with logged impressions; in the last season of dev or of test, so that no reader returns in both."""
    if season < config.train_seasons:
        end = (season + 1) * config.season_days
        return rng.integers(end - config.logged_days, end, config.num_users)
    (dev, test), (_, end) = config.windows("dev")[0], config.windows("test")[0]
    for_dev = rng.random(config.num_users) < DEV_SHARE
    return np.where(for_dev, dev, rng.integers(test, end, config.num_users))


def _clicks(
    config: PortalConfig,
    stories: Stories,
    press: Press,
    taste: NDArray[np.float64],
    favourites: NDArray[np.int64],
    users: NDArray[np.int64],
    days: NDArray[np.int64],
    season: int,
    rng: np.random.Generator,
) -> Clicks:
    per = config.stories_per_community
    chosen = (np.cumsum(taste, axis=1)[users] < rng.random((len(users), 1))).sum(1).clip(0, per - 1)
    place = stories.community[users, season] * per + chosen
    from_story = _by_quality(press, press.fresh.articles[stories.topic[place, days], days], rng)
    from_all = _by_quality(press, press.much_read.articles[days], rng)
    liked = favourites[users, rng.integers(0, FAVOURITES, len(users))]
    from_favourites = _by_quality(press, press.fresh.articles[liked, days], rng)
    kind = rng.random(len(users))
    is_hub, is_loyal = kind < config.hub_noise, kind > 1 - config.loyalty
    article = np.where(is_hub, from_all, np.where(is_loyal, from_favourites, from_story))
    # Later in the day than all that is offered on it, which is what there is at noon.
    times = ((days + 0.5 + 0.45 * rng.random(len(users))) * DAY).astype(np.int64)
    there = article != NOBODY
    story = np.where(is_hub | is_loyal, NO_STORY, stories.story[place, days])
    return Clicks(users[there], times[there], article[there].astype(np.int64), story[there].astype(np.int64))


def _by_quality(press: Press, offered: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
    """One article of each row, in proportion to quality; NOBODY of an empty row."""
    weights = np.where(offered == NOBODY, 0.0, press.quality[offered])
    cumulated = np.cumsum(weights, axis=1)
    place = (
        (cumulated <= rng.random((len(offered), 1)) * cumulated[:, -1:]).sum(1).clip(0, offered.shape[1] - 1)
    )
    return offered[np.arange(len(offered)), place]
