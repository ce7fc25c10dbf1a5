"""Simulates a portal: texts and a configuration -> MIND's tables and their ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multiway_recsys.data.tables import NO_NEWS, Behaviors, News, Ragged
from multiway_recsys.simulator.config import SPLITS, PortalConfig
from multiway_recsys.simulator.impressions import Shown, show
from multiway_recsys.simulator.press import DAY, EPOCH, publish
from multiway_recsys.simulator.readers import Clicks, read
from multiway_recsys.simulator.stories import lay_out
from multiway_recsys.simulator.texts import TextBank

ENTITY_VECTOR_SIZE = 100


@dataclass(frozen=True)
class Truth:
    """Ground truth that the log does not contain.

    Of a split, aligned with its candidates: position as displayed, relevance 0..1, chance of a click, the story and
    the community (-1: none) that the article belonged to on the day; aligned with its impressions: the reader's own
    community, and the dormancy in days (time since the last click of the history).
    Of the news (N,), row 0 the padding: topic (-1 there) and quality.
    Every click of the log, in order of user and time; times in seconds since 1970, articles as rows of the news.
    """

    position: dict[str, NDArray[np.int32]]
    relevance: dict[str, NDArray[np.float32]]
    chance: dict[str, NDArray[np.float32]]
    story: dict[str, NDArray[np.int32]]
    community: dict[str, NDArray[np.int32]]
    own_community: dict[str, NDArray[np.int32]]
    dormancy: dict[str, NDArray[np.float32]]
    topic: NDArray[np.int32]
    quality: NDArray[np.float32]
    clicks: Clicks


@dataclass(frozen=True)
class Portal:
    """A simulated portal: its news, the log of each split (train, dev, test), the truth, and entity vectors.

    A history holds what the user clicked before the impression's window began, so a graph made of the histories of a
    window is made of the past. dev and test are one window each; ``until`` is the time when it begins.
    """

    config: PortalConfig
    news: News
    splits: dict[str, Behaviors]
    truth: Truth
    entity_vectors: NDArray[np.float32]  # (entities, 100), aligned with news.entity_ids; row 0 is zero

    def until(self, split: str) -> int:
        """The time, in seconds since 1970, from which on the split's impressions are logged."""
        return EPOCH + self.config.windows(split)[0][0] * DAY

    def last_season(self) -> tuple[News, Behaviors]:
        """The test log with news and clicks of the last season only, and its readers: a fraction of the files."""
        news, log = self.news, self.splits["test"]
        assert news.published is not None
        kept = news.published >= EPOCH + self.config.train_seasons * self.config.season_days * DAY
        kept[0] = True  # the padding
        kept[log.candidates.values] = True
        rows = np.flatnonzero(kept)
        number_of = np.where(kept, np.cumsum(kept) - 1, NO_NEWS).astype(np.int32)
        histories = Ragged.from_rows(
            [
                number_of[row][number_of[row] != NO_NEWS]
                for row in map(log.histories.__getitem__, range(len(log)))
            ]
        )
        present, readers = np.unique(log.users, return_inverse=True)
        candidates = Ragged(number_of[log.candidates.values], log.candidates.offsets)
        return (
            replace(
                news,
                ids=tuple(news.ids[row] for row in rows),
                titles=tuple(news.titles[row] for row in rows),
                abstracts=tuple(news.abstracts[row] for row in rows),
                categories=news.categories[rows],
                subcategories=news.subcategories[rows],
                entities=news.entities.take(rows),
                published=news.published[rows],
            ),
            replace(
                log,
                users=readers.astype(np.int32),
                user_ids=tuple(log.user_ids[user] for user in present),
                histories=histories,
                candidates=candidates,
            ),
        )


def simulate(config: PortalConfig, bank: TextBank) -> Portal:
    """Run the portal. Deterministic in (config, bank)."""
    rngs = [np.random.default_rng([config.seed, part]) for part in range(6)]
    topic_vectors = bank.topic_vectors()
    stories = lay_out(config, topic_vectors, rngs[0])
    press = publish(config, bank, rngs[1])
    readers, reads = read(config, stories, press, rngs[2])
    shown = {
        split: show(config, split, stories, press, readers, bank.topics, topic_vectors, rng)
        for split, rng in zip(SPLITS, rngs[3:], strict=True)
    }
    clicks = Clicks.joined([reads, *(part.clicks() for part in shown.values())])
    news, entity_vectors = _news(bank, press.published, topic_vectors, config.seed)
    splits, dormancy = {}, {}
    for split in SPLITS:
        splits[split], dormancy[split] = _behaviors(config, split, shown[split], clicks)
    truth = Truth(
        position={split: part.position for split, part in shown.items()},
        relevance={split: part.relevance for split, part in shown.items()},
        chance={split: part.chance for split, part in shown.items()},
        story={split: part.story for split, part in shown.items()},
        community={split: part.community for split, part in shown.items()},
        own_community={
            split: stories.community[part.users, config.season(part.days)] for split, part in shown.items()
        },
        dormancy=dormancy,
        topic=np.concatenate([[-1], bank.topics]).astype(np.int32),
        quality=np.concatenate([[0], press.quality]).astype(np.float32),
        clicks=Clicks(clicks.users, EPOCH + clicks.times, clicks.articles + 1, clicks.stories),
    )
    return Portal(config, news, splits, truth, entity_vectors)


def _behaviors(
    config: PortalConfig, split: str, shown: Shown, clicks: Clicks
) -> tuple[Behaviors, NDArray[np.float32]]:
    """The split's log, histories cut at the beginning of the window; and the days since their last click."""
    cut = np.zeros(len(shown.users), np.int64)
    for first, end in config.windows(split):
        cut[(shown.days >= first) & (shown.days < end)] = first * DAY
    # Clicks are in order of user and time: those of a user before a moment are one stretch.
    keys = clicks.users * config.days * DAY + clicks.times
    starts = np.searchsorted(clicks.users, shown.users)
    ends = np.searchsorted(keys, shown.users * config.days * DAY + cut)
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, lengths)
    last_click = np.where(lengths > 0, clicks.times[np.maximum(ends - 1, 0)], np.nan)
    behaviors = Behaviors(
        impression_ids=tuple(str(number) for number in range(1, len(shown.users) + 1)),
        users=shown.users.astype(np.int32),
        user_ids=tuple(f"U{user}" for user in range(1, config.num_users + 1)),
        times=EPOCH + shown.times,
        histories=Ragged((clicks.articles[places] + 1).astype(np.int32), offsets),
        candidates=Ragged(shown.candidates.values + 1, shown.candidates.offsets),
        labels=shown.labels,
    )
    return behaviors, ((shown.times - last_click) / DAY).astype(np.float32)


def _news(
    bank: TextBank, published: NDArray[np.int64], topic_vectors: NDArray[np.float32], seed: int
) -> tuple[News, NDArray[np.float32]]:
    category_names = ("", *sorted(set(bank.categories)))
    subcategory_names = ("", *sorted(set(bank.subcategories)))
    entity_ids = ("", *sorted({entity for entities in bank.entities for entity in entities}))
    category_of = {name: row for row, name in enumerate(category_names)}
    subcategory_of = {name: row for row, name in enumerate(subcategory_names)}
    entity_of = {name: row for row, name in enumerate(entity_ids)}
    news = News(
        ids=("", *(f"N{row}" for row in range(1, len(bank) + 1))),
        titles=("", *bank.titles),
        abstracts=("", *bank.abstracts),
        categories=np.array([0, *(category_of[name] for name in bank.categories)], np.int32),
        subcategories=np.array([0, *(subcategory_of[name] for name in bank.subcategories)], np.int32),
        entities=Ragged.from_rows([[], *([entity_of[entity] for entity in row] for row in bank.entities)]),
        category_names=category_names,
        subcategory_names=subcategory_names,
        entity_ids=entity_ids,
        published=np.concatenate([[0], EPOCH + published]).astype(np.int64),
    )
    # An entity's vector: its topic's direction, carried into another space, with noise.
    rng = np.random.default_rng([seed, 99])
    carried = topic_vectors @ rng.normal(size=(topic_vectors.shape[1], ENTITY_VECTOR_SIZE)).astype(np.float32)
    vectors = np.zeros((len(entity_ids), ENTITY_VECTOR_SIZE), np.float32)
    for row, entities in enumerate(bank.entities):
        for entity in entities:
            vectors[entity_of[entity]] = carried[bank.topics[row]]
    vectors[1:] += 0.3 * rng.normal(size=vectors[1:].shape).astype(np.float32)
    return news, vectors
