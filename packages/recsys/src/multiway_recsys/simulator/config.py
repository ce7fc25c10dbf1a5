"""Configuration of the simulated portal: calendar, readers, and the factors that make long chains matter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from multiway_core.errors import ConfigError
from numpy.typing import NDArray

SPLITS = ("train", "dev", "test")
Day = TypeVar("Day", int, NDArray[np.int64])


@dataclass(frozen=True)
class PortalConfig:
    """The numbers of a simulated portal. Raises ConfigError on values that cannot work.

    Readers belong to communities; a community follows a few stories; a story is about one topic and moves on to a
    neighbouring topic every ``step_days``. For a reader who was away for a week the story has moved to another topic,
    and only the clicks of the community in between (the click graph) lead from the old topic to the new one.

    Time is divided into seasons. With each new season communities are redrawn with new stories, so memorised
    preferences of one season do not help in the next; only the use of the graph generalises.

    drift: probability that a story moves at a step; with 0 interests are static, and long chains add nothing.
    births: share of the communities that are redrawn with a new season.
    dormancy: maximum days between a returning reader's last visit and the return.
    regulars: share of the readers without absences.
    hub_noise: probability that a click goes to a globally popular article.
    loyalty: probability that a click goes to one of the reader's favourite topics, which never change.
    hard_negatives: candidates a story that are fresh articles about the topic that the reader left it at.
    impressions_per_user, active_impressions: mean of readers who come back (and of regulars) and, a window, of readers
        in the middle of their visits, whose histories tell the graph of the window what is read now.
    reads_a_day: mean clicks of a reader on a day with a visit; at least one.
    season_days, train_seasons: there is one season more than for training; dev and test are its end.
    logged_days: impressions are of so many days at the end of a training season, in windows of ``window_days``, and
        histories are those at the beginning of a window, as MIND's are those at the beginning of a week. dev and test
        are one window each, of one and of ``window_days`` days.
    """

    num_users: int = 4000
    communities: int = 12
    stories_per_community: int = 3
    step_days: int = 2
    drift: float = 1.0
    births: float = 1.0
    dormancy: int = 9
    regulars: float = 0.1
    hub_noise: float = 0.1
    loyalty: float = 0.0
    hard_negatives: int = 1
    reads_a_day: float = 1.2
    candidates: int = 20
    impressions_per_user: float = 3.0
    active_impressions: float = 2.0
    season_days: int = 24
    train_seasons: int = 3
    logged_days: int = 9
    window_days: int = 3
    fresh_days: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drift", "births", "regulars", "hub_noise", "loyalty"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"portal {name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in (
            "num_users", "communities", "stories_per_community", "step_days", "dormancy", "candidates", "fresh_days",
            "season_days", "train_seasons", "logged_days", "window_days",
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
        if not self.dormancy + self.logged_days < self.season_days:
            raise ConfigError(
                f"portal dormancy {self.dormancy} and logged_days {self.logged_days} together must be shorter than "
                f"season_days {self.season_days}: readers come and go within a season"
            )
        if not self.window_days <= self.logged_days:
            raise ConfigError(f"portal window_days must be at most logged_days, {self.logged_days}")

    @property
    def days(self) -> int:
        """Days of the whole portal."""
        return (self.train_seasons + 1) * self.season_days

    @property
    def num_stories(self) -> int:
        """Stories that run at the same time."""
        return self.communities * self.stories_per_community

    def windows(self, split: str) -> list[tuple[int, int]]:
        """First day and end (exclusive) of each stretch of days with histories of one moment."""
        if split == "train":
            ends = [(season + 1) * self.season_days for season in range(self.train_seasons)]
            return [
                (start, min(end, start + self.window_days))
                for end in ends
                for start in range(end - self.logged_days, end, self.window_days)
            ]
        test = self.days - self.window_days
        return [(test, self.days)] if split == "test" else [(test - 1, test)]

    def season(self, day: Day) -> Day:
        """The season of a day, or of each of an array of days."""
        return day // self.season_days
