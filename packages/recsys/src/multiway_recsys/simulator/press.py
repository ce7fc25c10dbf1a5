"""Articles: publication time, quality, and the fresh and the popular ones of each day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.simulator.config import PortalConfig
from multiway_recsys.simulator.texts import TextBank

DAY = 86_400
EPOCH = 1_704_067_200  # 1 January 2024, 00:00
MUCH_READ = 12  # globally popular articles of a day
OLDEST_DAYS = 8  # a topic without a fresh article offers its newest, if it is not older
NOBODY = -1


@dataclass(frozen=True)
class Pools:
    """Lists of articles (rows of the bank), padded with NOBODY: ``articles[..., :count[...]]``."""

    articles: NDArray[np.int32]
    count: NDArray[np.int64]

    @classmethod
    def of(cls, lists: list[NDArray[np.int32]]) -> Pools:
        """A list a row."""
        count = np.array([len(members) for members in lists])
        articles = np.full((len(lists), max(1, int(count.max(initial=0)))), NOBODY, np.int32)
        articles[np.arange(articles.shape[1]) < count[:, None]] = np.concatenate(lists)
        return cls(articles, count)

    def some(
        self, where: tuple[NDArray[np.integer], ...], number: int, rng: np.random.Generator
    ) -> NDArray[np.int32]:
        """``number`` different articles of each of the given lists (rows, number), NOBODY where there are fewer."""
        count = self.count[where][:, None]
        offsets = (rng.random(count.shape) * count).astype(np.int64) + np.arange(number)
        drawn = self.articles[tuple(place[:, None] for place in where)][:, 0]
        drawn = np.take_along_axis(drawn, offsets % np.maximum(count, 1), axis=1)
        return np.where(np.arange(number) < count, drawn, NOBODY).astype(np.int32)


@dataclass(frozen=True)
class Press:
    """published: (N,) seconds since the portal's first day; quality: (N,) positive, mean about one.

    fresh: articles of each topic on each day (T, days); much_read: globally popular ones of a day (days,);
    recent: all fresh articles of a day (days,).
    """

    published: NDArray[np.int64]
    quality: NDArray[np.float64]
    fresh: Pools
    much_read: Pools
    recent: Pools


def publish(config: PortalConfig, bank: TextBank, rng: np.random.Generator) -> Press:
    """Spread each topic's articles evenly over the days, with jitter. A day's lists are those of noon."""
    published = np.zeros(len(bank), np.int64)
    quality = np.exp(rng.normal(-0.125, 0.5, len(bank)))
    noons = ((np.arange(config.days) + 0.5) * DAY).astype(np.int64)
    offered = []
    for topic in range(bank.num_topics):
        members = rng.permutation(np.flatnonzero(bank.topics == topic)).astype(np.int32)
        places = (np.arange(len(members)) + rng.random(len(members))) / max(1, len(members))
        published[members] = times = (places * config.days * DAY).astype(np.int64)
        ends = np.searchsorted(times, noons)  # members are in order of publication
        starts = np.searchsorted(times, noons - config.fresh_days * DAY)
        oldest = np.searchsorted(times, noons - OLDEST_DAYS * DAY)
        starts = np.where(starts == ends, np.maximum(ends - 1, oldest), starts)
        offered += [members[start:end] for start, end in zip(starts, ends, strict=True)]
    fresh = Pools.of(offered)
    recent = [
        np.flatnonzero((published < noon) & (published >= noon - config.fresh_days * DAY)).astype(np.int32)
        for noon in noons
    ]
    return Press(
        published=published,
        quality=quality,
        fresh=Pools(
            fresh.articles.reshape(bank.num_topics, config.days, -1), fresh.count.reshape(bank.num_topics, -1)
        ),
        much_read=Pools.of([day[np.argsort(-quality[day], kind="stable")][:MUCH_READ] for day in recent]),
        recent=Pools.of(recent),
    )
