"""Readers: when they visit, and what they read without being asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.simulator.config import PortalConfig
from multiway_recsys.simulator.press import DAY, NOBODY, Press
from multiway_recsys.simulator.stories import Stories

SPELL_DAYS = (5, 11)  # shortest and longest stretch of days in which a reader comes
TAKING_PART = 0.6  # share of the readers that come at all before a window
REGULAR_VISITS = 0.7  # of a regular, a day
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
    """last_visit: (users, 2) last day with a visit before the train and before the dev window, -1 for none at all.

    taste: (users, stories_per_community) share of each of the community's stories, sums to one.
    """

    last_visit: NDArray[np.int64]
    taste: NDArray[np.float64]


def read(
    config: PortalConfig, stories: Stories, press: Press, rng: np.random.Generator
) -> tuple[Readers, Clicks]:
    """Let everybody visit and read until the windows begin (regulars until the end)."""
    users = config.num_users
    taste = rng.dirichlet(np.full(config.stories_per_community, 2.0), users)
    regular = rng.random(users) < config.regulars
    last_visit = np.full((users, 2), -1)
    parts = []
    all_days = np.arange(config.days)
    for era, (first, end, stop) in enumerate(
        ((0, config.train_day, config.birth_day), (config.birth_day, config.dev_day, config.days))
    ):
        taking_part = rng.random(users) < TAKING_PART
        last = end - 1 - rng.integers(0, config.dormancy, users)
        length = rng.integers(SPELL_DAYS[0], SPELL_DAYS[1] + 1, users)
        in_spell = (all_days <= last[:, None]) & (all_days > (last - length)[:, None]) & taking_part[:, None]
        comes = np.where(regular[:, None], rng.random((users, config.days)) < REGULAR_VISITS, in_spell)
        comes &= (all_days >= first) & (all_days < stop)
        last_visit[:, era] = np.where(regular, end - 1, np.where(taking_part, last, -1))
        visitors, days = np.nonzero(comes)
        number = 1 + rng.poisson(config.reads_a_day - 1, len(visitors))
        parts.append(
            _clicks(config, stories, press, taste, visitors.repeat(number), days.repeat(number), era, rng)
        )
    return Readers(last_visit, taste), Clicks.joined(parts)


def _clicks(
    config: PortalConfig,
    stories: Stories,
    press: Press,
    taste: NDArray[np.float64],
    users: NDArray[np.int64],
    days: NDArray[np.int64],
    era: int,
    rng: np.random.Generator,
) -> Clicks:
    per = config.stories_per_community
    chosen = (np.cumsum(taste, axis=1)[users] < rng.random((len(users), 1))).sum(1).clip(0, per - 1)
    place = stories.community[users, era] * per + chosen
    from_story = _by_quality(press, press.fresh.articles[stories.topic[place, days], days], rng)
    from_all = _by_quality(press, press.much_read.articles[days], rng)
    is_hub = rng.random(len(users)) < config.hub_noise
    article = np.where(is_hub, from_all, from_story)
    # Later in the day than all that is offered on it, which is what there is at noon.
    times = ((days + 0.5 + 0.45 * rng.random(len(users))) * DAY).astype(np.int64)
    there = article != NOBODY
    story = np.where(is_hub, NO_STORY, stories.story[place, days])
    return Clicks(users[there], times[there], article[there].astype(np.int64), story[there].astype(np.int64))


def _by_quality(press: Press, offered: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
    """One article of each row, in proportion to quality; NOBODY of an empty row."""
    weights = np.where(offered == NOBODY, 0.0, press.quality[offered])
    cumulated = np.cumsum(weights, axis=1)
    place = (
        (cumulated <= rng.random((len(offered), 1)) * cumulated[:, -1:]).sum(1).clip(0, offered.shape[1] - 1)
    )
    return offered[np.arange(len(offered)), place]
