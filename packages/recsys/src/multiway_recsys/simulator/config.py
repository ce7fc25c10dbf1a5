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
    births: share of the communities that dissolve after the training days; their members form new communities with
        new stories, about which nothing can have been learnt by heart.
    dormancy: most days between a returning reader's last visit and the window.
    regulars: share of the readers who never stay away.
    hub_noise: chance that a click goes to what everybody reads.
    hard_negatives: candidates a story that are fresh articles about the topic that the reader left it at.
    reads_a_day: mean clicks of a reader on a day with a visit; at least one.
    train_day, dev_day, test_day, days: first days of the three windows with logged impressions, and the end.
        Histories of a window hold the clicks before it begins. New communities start the day after the training
        window (``train_days`` long).
    """

    num_users: int = 8000
    communities: int = 16
    stories_per_community: int = 3
    step_days: int = 2
    drift: float = 1.0
    births: float = 1.0
    dormancy: int = 16
    regulars: float = 0.15
    hub_noise: float = 0.12
    hard_negatives: int = 2
    reads_a_day: float = 1.2
    candidates: int = 20
    impressions_per_user: float = 3.0
    train_day: int = 24
    train_days: int = 3
    dev_day: int = 50
    test_day: int = 51
    days: int = 54
    fresh_days: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drift", "births", "regulars", "hub_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"portal {name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in (
            "num_users", "communities", "stories_per_community", "step_days", "dormancy", "candidates", "train_days",
            "fresh_days",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"portal {name} must be at least 1, not {getattr(self, name)}")
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
        """The day on which new communities and their stories begin."""
        return self.train_day + self.train_days

    @property
    def num_stories(self) -> int:
        """Stories that run at the same time."""
        return self.communities * self.stories_per_community

    def window(self, split: str) -> tuple[int, int]:
        """First day and end (exclusive) of a split's impressions."""
        return {
            "train": (self.train_day, self.birth_day),
            "dev": (self.dev_day, self.test_day),
            "test": (self.test_day, self.days),
        }[split]
