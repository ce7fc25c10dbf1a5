"""A log in periods, each with the graph and chains of its own past: how training sees what serving will see.

A graph of the whole log would tell an early impression what was clicked later, and a model that meets one state of the
portal only learns by heart what is read this week. So the graph is made anew for every period, as a portal makes it
anew every night, and a batch takes the features of its period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from multiway_core.errors import DataError, InputError
from numpy.typing import NDArray

from multiway_recsys.data.tables import Behaviors
from multiway_recsys.glocim.batch import Batch
from multiway_recsys.glocim.batches import TrainingBatches
from multiway_recsys.glocim.config import GlocimConfig
from multiway_recsys.glocim.features import Features

DAY = 86_400
WHOLE_DAYS = (28, 14, 7, 3, 2, 1)  # lengths of periods that are tried
EQUAL_PARTS = 8
MAX_PERIODS = 64


@dataclass(frozen=True)
class LogPeriod:
    """A period of a log: its impressions, the rows of the log whose histories make its graph, and until when."""

    behaviors: Behaviors
    past: Behaviors
    until: int  # seconds since 1970: no click in the histories of `past` is later


@dataclass(frozen=True)
class Period:
    """Impressions, and what the model may know of the news at their time."""

    features: Features
    behaviors: Behaviors


def log_periods(behaviors: Behaviors) -> list[LogPeriod]:
    """The periods of a log, earliest first.

    MIND freezes histories at the beginning of a week (and a split is one period). Where all histories are frozen at the
    beginning of periods of whole days, counted from the midnight before the first impression, these are the periods,
    the longest that will do; the graph of a period is made of the histories of its rows and of earlier ones. Otherwise
    histories grow from click to click; then there are eight periods of equally many impressions, and the graph of each
    is made of earlier rows alone (of the first there is none, so it only serves the others).
    """
    if not len(behaviors):
        raise InputError("a log without impressions: nothing to train on")
    order = np.argsort(behaviors.times, kind="stable")
    times = behaviors.times[order]
    midnight = times[0] // DAY * DAY
    for days in WHOLE_DAYS:
        number = (times - midnight) // (days * DAY)
        if number[-1] < MAX_PERIODS and not _grows(behaviors, order, number):
            return [
                LogPeriod(
                    behaviors.take(order[number == period]),
                    behaviors.take(order[number <= period]),
                    int(midnight + period * days * DAY) if period else int(times[0]),
                )
                for period in np.unique(number)
            ]
    bounds = np.linspace(0, len(order), EQUAL_PARTS + 1).astype(int)
    starts = np.searchsorted(times, times[np.minimum(bounds[1:-1], len(order) - 1)])
    starts = np.unique(starts[starts > 0])
    if not len(starts):
        raise InputError(
            "all impressions are of one moment, but their histories differ: no past to make a graph of"
        )
    ends = [*starts[1:], len(order)]
    return [
        LogPeriod(behaviors.take(order[start:end]), behaviors.take(order[:start]), int(times[start]))
        for start, end in zip(starts, ends, strict=True)
    ]


def _grows(behaviors: Behaviors, rows: NDArray[np.int64], period: NDArray[np.int64]) -> bool:
    """Whether a reader has two histories in one period."""
    users, lengths = behaviors.users[rows], behaviors.histories.lengths[rows]
    order = np.lexsort((lengths, period, users))
    users, lengths, period = users[order], lengths[order], period[order]
    same = (users[1:] == users[:-1]) & (period[1:] == period[:-1])
    return bool((same & (lengths[1:] != lengths[:-1])).any())


def held_out(
    parts: list[LogPeriod], *, share: float = 1 / 3, of_one: float = 0.1, at_most: int = 2000, seed: int = 0
) -> tuple[list[LogPeriod], list[LogPeriod]]:
    """What is trained on, and what judges the training: the last ``share`` of the periods, or the latest ``of_one`` of
    the impressions of a single one; ``at_most`` impressions in all.

    Raises InputError if there are too few impressions for both.
    """
    if len(parts) > 1:
        count = max(1, round(share * len(parts)))
        judging, rng = [], np.random.default_rng(seed)
        for part in parts[-count:]:
            rows = np.sort(rng.permutation(len(part.behaviors))[: at_most // count])
            judging.append(LogPeriod(part.behaviors.take(rows), part.past, part.until))
        return parts[:-count], judging
    last = parts[-1]
    count = min(at_most, round(of_one * len(last.behaviors)))
    if not 0 < count < len(last.behaviors):
        raise InputError(
            f"{len(last.behaviors)} impressions are too few to hold some out for judging the training"
        )
    order = np.argsort(last.behaviors.times, kind="stable")
    earlier, later = last.behaviors.take(order[:-count]), last.behaviors.take(order[-count:])
    return [LogPeriod(earlier, earlier, last.until)], [LogPeriod(later, earlier, last.until)]


class PeriodBatches:
    """Batches of all periods in random order, each epoch anew: a pure function of (step, shard).

    Raises DataError if no period has a labelled impression with a clicked and another candidate.
    """

    def __init__(
        self, periods: Sequence[Period], config: GlocimConfig, *, seed: int, batch_size: int
    ) -> None:
        self.seed = seed
        self.parts = [
            TrainingBatches(
                period.features, period.behaviors, config, seed=seed + number, batch_size=batch_size
            )
            for number, period in enumerate(periods)
            if _teaches(period.behaviors)
        ]
        if not self.parts:
            raise DataError(
                "no impression has both a clicked and a not clicked candidate: nothing to train on"
            )
        counts = [part.batches_per_epoch for part in self.parts]
        self.which = np.repeat(np.arange(len(counts)), counts)
        self.index = np.concatenate([np.arange(count) for count in counts])
        self._epoch: tuple[int, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        """Rows of an epoch: clicked candidates."""
        return sum(len(part) for part in self.parts)

    def steps(self, epochs: float) -> int:
        """Optimizer steps (of one shard) that so many epochs take."""
        return max(1, round(epochs * len(self.which)))

    def __call__(self, step: int, shard: int, num_shards: int) -> Batch:
        """The batch of one shard of one step."""
        epoch, place = divmod(step * num_shards + shard, len(self.which))
        cached = self._epoch
        if cached is None or cached[0] != epoch:
            order = np.random.default_rng([self.seed, epoch, 5]).permutation(len(self.which))
            cached = self._epoch = (epoch, order)
        chosen = cached[1][place]
        part = self.parts[self.which[chosen]]
        return part(epoch * part.batches_per_epoch + int(self.index[chosen]), 0, 1)


def _teaches(behaviors: Behaviors) -> bool:
    if behaviors.labels is None:
        raise DataError("training needs labelled impressions (N1-0 N2-1 ...), and these have no labels")
    rows = np.repeat(np.arange(len(behaviors)), behaviors.candidates.lengths)
    clicks = np.bincount(rows, weights=behaviors.labels, minlength=len(behaviors))
    return bool(((clicks > 0) & (clicks < behaviors.candidates.lengths)).any())
