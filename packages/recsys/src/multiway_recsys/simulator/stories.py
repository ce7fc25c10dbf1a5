"""Stories: the topic of each on each day, and the communities of readers that follow them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from multiway_core.errors import ConfigError
from numpy.typing import NDArray

from multiway_recsys.simulator.config import PortalConfig

# A story moves to one of so many nearest topics, away from its first one, so that it does not return.
NEAREST = 4
AWAY_FROM_START = 0.35


@dataclass(frozen=True)
class Stories:
    """S slots of stories, ``stories_per_community`` a community; a slot holds one story at a time.

    topic: (S, days) topic of the story in the slot on the day.
    story: (S, days) number of that story; every new one has a new number.
    step: (S, days) how often the story has moved.
    community: (users, seasons) each user's community.
    """

    topic: NDArray[np.int32]
    story: NDArray[np.int32]
    step: NDArray[np.int32]
    community: NDArray[np.int32]


def lay_out(config: PortalConfig, topic_vectors: NDArray[np.float32], rng: np.random.Generator) -> Stories:
    """Draw the stories' paths and the communities' members.

    On no day are two stories about the same topic, so a fresh article belongs to one community at most.
    """
    places, days, per = config.num_stories, config.days, config.stories_per_community
    num_topics = len(topic_vectors)
    if num_topics < 2 * places:
        raise ConfigError(f"{places} stories need at least {2 * places} topics, there are {num_topics}")
    similar = topic_vectors @ topic_vectors.T

    topic = np.zeros((places, days), np.int32)
    story = np.zeros((places, days), np.int32)
    step = np.zeros((places, days), np.int32)
    now = rng.permutation(num_topics)[:places].astype(np.int32)
    start, story_now, step_now = now.copy(), np.arange(places, dtype=np.int32), np.zeros(places, np.int32)
    visited = np.zeros((places, num_topics), bool)
    visited[np.arange(places), now] = True
    next_story = places
    before = rng.integers(0, config.communities, config.num_users).astype(np.int32)
    memberships = [before]
    for day in range(days):
        new = np.zeros(0, np.int64)
        if day and day % config.season_days == 0:
            born = rng.permutation(config.communities)[: round(config.births * config.communities)]
            new = np.flatnonzero(np.isin(np.arange(places) // per, born))
            after = memberships[-1].copy()
            moved = np.flatnonzero(np.isin(after, born))
            after[moved] = rng.permutation(after[moved])
            memberships.append(after)
        if len(new):
            free = rng.permutation(np.setdiff1d(np.arange(num_topics), now))
            now[new] = start[new] = free[: len(new)]
            story_now[new] = next_story + np.arange(len(new))
            next_story += len(new)
            step_now[new] = 0
            visited[new] = False
            visited[new, now[new]] = True
        if day and day % config.step_days == 0:
            for place in rng.permutation(places):
                if place in new or rng.random() >= config.drift:
                    continue
                near = similar[now[place]] - AWAY_FROM_START * similar[start[place]]
                near = np.where(visited[place], -np.inf, near)
                near[now] = -np.inf
                now[place] = rng.choice(np.argsort(-near)[:NEAREST])
                visited[place, now[place]] = True
                step_now[place] += 1
        topic[:, day], story[:, day], step[:, day] = now, story_now, step_now

    return Stories(topic, story, step, np.stack(memberships, axis=1))
