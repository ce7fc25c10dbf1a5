"""Periods of a log: no graph tells an impression what comes after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from multiway_core.errors import DataError, InputError
from multiway_recsys.data.tables import Behaviors, Ragged
from multiway_recsys.glocim.config import PRESETS
from multiway_recsys.glocim.features import Features
from multiway_recsys.periods import DAY, Period, PeriodBatches, held_out, log_periods


def log(users: list[int], times: list[int], histories: list[list[int]]) -> Behaviors:
    count = len(users)
    return Behaviors(
        impression_ids=tuple(map(str, range(count))),
        users=np.array(users, np.int32),
        user_ids=tuple(f"U{user}" for user in range(max(users) + 1)),
        times=np.array(times, np.int64),
        histories=Ragged.from_rows(histories),
        candidates=Ragged.from_rows([[1, 2, 3]] * count),
        labels=np.array([1, 0, 0] * count, np.int8),
    )


def test_a_split_with_frozen_histories_is_one_period() -> None:
    parts = log_periods(log([0, 1, 0, 1], [5, 9 * DAY, 2 * DAY, 7], [[1], [2, 3], [1], [2, 3]]))
    assert len(parts) == 1
    assert parts[0].until == 5
    assert len(parts[0].past) == len(parts[0].behaviors) == 4


def test_histories_frozen_every_three_days_make_periods_of_three_days() -> None:
    times = [10 + day * DAY for day in (0, 2, 3, 5, 6, 8)]
    parts = log_periods(log([0] * 6, times, [[1], [1], [1, 2], [1, 2], [1, 2, 3], [1, 2, 3]]))
    assert [len(part.behaviors) for part in parts] == [2, 2, 2]
    assert [part.until for part in parts] == [10, 3 * DAY, 6 * DAY]
    assert [len(part.past) for part in parts] == [2, 4, 6]
    assert parts[1].past.histories.values.max() == 2


def test_growing_histories_only_look_back() -> None:
    count = 64
    histories = [[1 + item % 9 for item in range(row + 1)] for row in range(count)]
    parts = log_periods(log([0] * count, list(range(count)), histories))
    assert len(parts) == 7
    for part in parts:
        assert part.past.times.max() < part.behaviors.times.min() == part.until
    with pytest.raises(InputError, match="one moment"):
        log_periods(log([0, 0], [4, 4], [[1], [1, 2]]))


def test_the_latest_judge() -> None:
    one = log([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], list(range(10)), [[1]] * 10)
    taught, judging = held_out(log_periods(one), of_one=0.2)
    assert len(taught) == len(judging) == 1
    assert taught[0].behaviors.times.max() < judging[0].behaviors.times.min()
    assert len(judging[0].behaviors) == 2
    assert len(judging[0].past) == 8
    times = [10 + day * DAY for day in range(0, 24, 3)]
    taught, judging = held_out(log_periods(log([0] * 8, times, [[1] * (row + 1) for row in range(8)])))
    assert [len(part.behaviors) for part in taught] == [1] * 5
    assert [part.behaviors.times[0] for part in judging] == times[5:]
    with pytest.raises(InputError, match="too few"):
        held_out(log_periods(one.take(np.arange(1))))
    with pytest.raises(InputError, match="without impressions"):
        log_periods(one.take(np.arange(0)))


@pytest.fixture
def periods() -> list[Period]:
    parts = []
    for number in range(3):
        features = Features(
            categories=np.zeros(4, np.int32),
            subcategories=np.zeros(4, np.int32),
            num_categories=1,
            num_subcategories=1,
            text_vectors=np.full((4, 8), number, np.float32),
        )
        count = 5 * (number + 1)
        parts.append(Period(features, log(list(range(count)), list(range(count)), [[1]] * count)))
    return parts


def test_an_epoch_has_every_row_once_with_the_features_of_its_period(periods: list[Period]) -> None:
    config = replace(PRESETS["nrms-small"], negatives=2)
    batches = PeriodBatches(periods, config, seed=1, batch_size=4)
    assert len(batches) == 30
    assert batches.steps(1) == 2 + 3 + 4
    for epoch in (0, 1):
        seen = {0: 0, 1: 0, 2: 0}
        for step in range(9):
            batch = batches(9 * epoch + step, 0, 1)
            assert batch.news.vectors_ND is not None
            seen[int(batch.news.vectors_ND[1, 0])] += len(batch)
        assert seen == {0: 5, 1: 10, 2: 15}


def test_batches_depend_on_step_and_shard_alone(periods: list[Period]) -> None:
    config = replace(PRESETS["nrms-small"], negatives=2)
    one = PeriodBatches(periods, config, seed=1, batch_size=4)
    other = PeriodBatches(periods, config, seed=1, batch_size=4)
    assert [int(one(step, 0, 1).users_B[0]) for step in (17, 3, 9)] == [
        int(other(step, 0, 1).users_B[0]) for step in (17, 3, 9)
    ]
    for step in range(8):
        assert one(step, 1, 2).users_B.tolist() == other(2 * step + 1, 0, 1).users_B.tolist()


def test_nothing_to_train_on(periods: list[Period]) -> None:
    config = replace(PRESETS["nrms-small"], negatives=2)
    behaviors = periods[0].behaviors
    assert behaviors.labels is not None
    idle = replace(periods[0], behaviors=replace(behaviors, labels=np.zeros_like(behaviors.labels)))
    with pytest.raises(DataError, match="nothing to train on"):
        PeriodBatches([idle], config, seed=0, batch_size=4)
    unlabelled = replace(periods[0], behaviors=replace(behaviors, labels=None))
    with pytest.raises(DataError, match="labels"):
        PeriodBatches([unlabelled], config, seed=0, batch_size=4)
    assert len(PeriodBatches([idle, periods[1]], config, seed=0, batch_size=4)) == 10
