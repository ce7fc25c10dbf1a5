"""What a simulated portal is: its calendar, its readers, and the knobs that make chains matter or not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from multiway_core.errors import ConfigError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class PortalConfig:
    """The numbers of a simulated portal. Raises ConfigError on values that cannot work.

    Readers belong to communities; a community follows a few stories; a story is about one topic and moves on to a
    neighbouring topic every ``step_days``. A reader who was away for weeks finds the own story somewhere else, and only
    what the rest of the community read in between (the click graph) leads from the old place to the new one.

    drift: chance that a story moves on at a step; 0 is a world of static interests, in which a long chain has
        nothing to add.
    births: chance that a story of ``story_days`` is followed by a new one about anything; and the share of the
        communities that dissolve after the training days, whose members form new communities with new stories, about
        which nothing can have been learnt by heart.
    dormancy: most days between a returning reader's last visit and the return.
    regulars: share of the readers who never stay away.
    hub_noise: chance that a click goes to what everybody reads.
    loyalty: chance that a click goes to one of the reader's own favourite topics, which never change.
    hard_negatives: candidates a story that are fresh articles about the topic that the reader left it at.
    impressions_per_user, active_impressions: mean of readers who come back (and of regulars) and, a window, of readers
        in the middle of their visits, whose histories tell the graph of the window what is read now.
    reads_a_day: mean clicks of a reader on a day with a visit; at least one.
    train_day, dev_day, test_day, days: first days of the three splits of logged impressions, and the end; the training
        impressions are of ``train_days`` days, and new communities begin right behind them.
    window_days: histories are those at the beginning of a window of so many days, as MIND's are those at the
        beginning of a week; dev and test are one window each.
    """

    num_users: int = 4000
    communities: int = 12
    stories_per_community: int = 3
    step_days: int = 2
    drift: float = 1.0
    births: float = 1.0
    story_days: int = 21
    dormancy: int = 12
    regulars: float = 0.1
    hub_noise: float = 0.1
    loyalty: float = 0.0
    hard_negatives: int = 1
    reads_a_day: float = 1.2
    candidates: int = 20
    impressions_per_user: float = 3.0
    active_impressions: float = 2.0
    train_day: int = 15
    train_days: int = 21
    window_days: int = 3
    dev_day: int = 52
    test_day: int = 53
    days: int = 56
    fresh_days: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drift", "births", "regulars", "hub_noise", "loyalty"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"portal {name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in (
            "num_users", "communities", "stories_per_community", "step_days", "dormancy", "candidates", "train_days",
            "fresh_days", "story_days", "window_days",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"portal {name} must be at least 1, not {getattr(self, name)}")
        if self.hub_noise + self.loyalty > 1:
            raise ConfigError("portal hub_noise and loyalty must not be more than 1 together")
        if self.hard_negatives < 0 or self.seed < 0:
            raise ConfigError("portal hard_negatives and seed must not be negative")
        if not (math.isfinite(self.reads_a_day) and self.reads_a_day >= 1):
            raise ConfigError(f"portal reads_a_day must be at least 1, not {self.reads_a_day}")
        if not (0 < self.impressions_per_user <= 20):
            raise ConfigError(
                f"portal impressions_per_user must be in (0, 20], not {self.impressions_per_user}"
            )
        if not self.dormancy < self.train_day:
            raise ConfigError(f"portal dormancy must be shorter than train_day, {self.train_day}")
        if not self.birth_day + self.dormancy < self.dev_day < self.test_day < self.days:
            raise ConfigError(
                "portal days must be in the order train_day + train_days + dormancy < dev_day < test_day < days, not "
                f"{self.birth_day} + {self.dormancy}, {self.dev_day}, {self.test_day}, {self.days}"
            )

    @property
    def birth_day(self) -> int:
        """The day on which new communities begin."""
        return self.train_day + self.train_days

    @property
    def num_stories(self) -> int:
        """Stories that run at the same time."""
        return self.communities * self.stories_per_community

    def span(self, split: str) -> tuple[int, int]:
        """First day and end (exclusive) of a split's impressions."""
        return {
            "train": (self.train_day, self.birth_day),
            "dev": (self.dev_day, self.test_day),
            "test": (self.test_day, self.days),
        }[split]

    def windows(self, split: str) -> list[tuple[int, int]]:
        """First day and end (exclusive) of each stretch of days with histories of one moment."""
        first, end = self.span(split)
        if split != "train":
            return [(first, end)]
        starts = range(first, end, self.window_days)
        return [(start, min(end, start + self.window_days)) for start in starts]
