"""The simulated portal: what its log may and may not tell, and what its knobs do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from multiway_core.errors import ConfigError, DataError
from multiway_recsys.data.mind import read_folder
from multiway_recsys.simulator import (
    Portal,
    PortalConfig,
    TextBank,
    generated_texts,
    real_headlines,
    simulate,
    write_portal,
)
from multiway_recsys.simulator.config import SPLITS
from multiway_recsys.simulator.press import DAY, EPOCH
from multiway_recsys.simulator.stories import lay_out

SMALL = PortalConfig(num_users=240, communities=6, seed=3)


@pytest.fixture(scope="module")
def bank() -> TextBank:
    return generated_texts(2400, seed=1)


@pytest.fixture(scope="module")
def portal(bank: TextBank) -> Portal:
    return simulate(SMALL, bank)


def test_same_seed_same_portal_other_seed_another(bank: TextBank, portal: Portal) -> None:
    again = simulate(SMALL, bank)
    other = simulate(replace(SMALL, seed=4), bank)
    for split in SPLITS:
        assert np.array_equal(again.splits[split].candidates.values, portal.splits[split].candidates.values)
        assert np.array_equal(again.splits[split].labels, portal.splits[split].labels)
    assert not np.array_equal(
        other.splits["train"].candidates.values[:200], portal.splits["train"].candidates.values[:200]
    )


@pytest.mark.parametrize("split", SPLITS)
def test_histories_end_before_the_window_and_candidates_are_out_and_different(
    portal: Portal, split: str
) -> None:
    behaviors, clicks = portal.splits[split], portal.truth.clicks
    assert (behaviors.times >= portal.until(split)).all()
    starts = EPOCH + DAY * np.array([first for first, _ in SMALL.windows(split)])
    published = portal.news.published
    assert published is not None
    for row in range(0, len(behaviors), 7):
        cut = starts[starts <= behaviors.times[row]].max()
        mine = clicks.users == behaviors.users[row]
        assert behaviors.histories[row].tolist() == clicks.articles[mine & (clicks.times < cut)].tolist()
        candidates = behaviors.candidates[row]
        assert len(set(candidates.tolist())) == len(candidates) <= SMALL.candidates
        assert (published[candidates] < behaviors.times[row]).all()
    dormancy = portal.truth.dormancy[split]
    assert np.array_equal(np.isnan(dormancy), behaviors.histories.lengths == 0)
    assert (dormancy[behaviors.histories.lengths > 0] > 0).all()


def test_a_click_in_an_impression_is_in_the_later_histories(portal: Portal) -> None:
    train, test = portal.splits["train"], portal.splits["test"]
    clicked = {
        (int(user), int(news))
        for user, news, label in zip(
            np.repeat(train.users, train.candidates.lengths),
            train.candidates.values,
            train.labels,
            strict=True,
        )
        if label
    }
    test_users = {int(user): row for row, user in enumerate(test.users)}
    pairs = [(user, news) for user, news in clicked if user in test_users]
    assert pairs
    assert all(news in test.histories[test_users[user]] for user, news in pairs)


def test_clicks_follow_interest_but_not_the_order_of_the_line(portal: Portal) -> None:
    behaviors, truth = portal.splits["train"], portal.truth
    labels = behaviors.labels
    assert labels is not None
    own = truth.community["train"] == np.repeat(truth.own_community["train"], behaviors.candidates.lengths)
    assert labels[own].mean() > 5 * labels[~own].mean()
    top = truth.position["train"] < 3
    assert labels[own & top].mean() > labels[own & ~top].mean()
    place = np.arange(len(labels)) - np.repeat(
        behaviors.candidates.offsets[:-1], behaviors.candidates.lengths
    )
    assert abs(place[labels == 1].mean() - place.mean()) < 0.5


def test_stories_never_share_a_topic_and_move_with_drift_only(bank: TextBank) -> None:
    vectors = bank.topic_vectors()
    moving = lay_out(SMALL, vectors, np.random.default_rng(0))
    still = lay_out(replace(SMALL, drift=0.0, births=0.0), vectors, np.random.default_rng(0))
    for day in range(SMALL.days):
        assert len(set(moving.topic[:, day])) == SMALL.num_stories
    assert (still.topic == still.topic[:, :1]).all()
    steps = [len(set(row)) for row in moving.topic[:, : SMALL.season_days]]
    assert min(steps) > 8
    similar = vectors @ vectors.T
    assert similar[moving.topic[:, 0], moving.topic[:, 2]].mean() > similar.mean() + 0.2


def test_a_new_season_brings_new_stories_and_regroups_readers(bank: TextBank) -> None:
    vectors = bank.topic_vectors()
    born = lay_out(replace(SMALL, births=1.0), vectors, np.random.default_rng(0))
    for day in range(1, SMALL.days):
        new = born.story[:, day] != born.story[:, day - 1]
        assert new.all() if day % SMALL.season_days == 0 else not new.any()
    assert len(set(born.story.ravel())) == SMALL.num_stories * (SMALL.train_seasons + 1)
    assert born.community.shape == (SMALL.num_users, SMALL.train_seasons + 1)
    assert ((born.community[:, 0] != born.community[:, 1]).mean()) > 0.6
    half = lay_out(replace(SMALL, births=0.5), vectors, np.random.default_rng(0))
    assert (half.story[:, SMALL.season_days] != half.story[:, SMALL.season_days - 1]).sum() == 9
    none = lay_out(replace(SMALL, births=0.0), vectors, np.random.default_rng(0))
    assert (none.story == none.story[:, :1]).all()
    assert (none.community == none.community[:, :1]).all()


def test_knobs(bank: TextBank) -> None:
    short = simulate(replace(SMALL, dormancy=3, regulars=0.0, loyalty=0.0), bank)
    assert short.truth.dormancy["test"].max() < 3 + 1 + SMALL.window_days
    hubs = simulate(replace(SMALL, hub_noise=0.9, loyalty=0.0), bank)
    assert (hubs.truth.clicks.stories == -1).mean() > (short.truth.clicks.stories == -1).mean() + 0.3
    loyal = simulate(replace(SMALL, loyalty=0.9, hub_noise=0.0), bank)
    topics = loyal.truth.topic[loyal.splits["test"].histories[0]]
    assert np.sort(np.bincount(topics))[-2:].sum() >= 0.4 * len(topics)  # two favourite topics


def test_written_portal_reads_back(portal: Portal, tmp_path: Path) -> None:
    write_portal(tmp_path, portal)
    for split in SPLITS:
        data = read_folder(tmp_path, split)
        ours = portal.splits[split]
        assert data.news.ids == portal.news.ids
        assert np.array_equal(data.behaviors.candidates.values, ours.candidates.values)
        assert np.array_equal(data.behaviors.labels, ours.labels)
        assert np.array_equal(data.behaviors.times, ours.times)
        assert data.entity_vectors is not None
        truth = pl.read_parquet(tmp_path / "truth" / f"{split}.parquet")
        assert len(truth) == len(ours.candidates.values)
        assert truth["news"][5] == data.news.ids[ours.candidates.values[5]]
    reads = pl.read_parquet(tmp_path / "truth" / "reads.parquet")
    assert reads["time"].min() >= EPOCH
    assert reads["time"].max() < EPOCH + SMALL.days * DAY
    assert (tmp_path / "truth" / "portal.json").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drift": 1.5}, "drift"),
        ({"num_users": 0}, "num_users"),
        ({"dormancy": 30}, "dormancy"),
        ({"window_days": 10}, "window_days"),
        ({"hub_noise": 0.6, "loyalty": 0.6}, "together"),
        ({"reads_a_day": 0.5}, "reads_a_day"),
    ],
)
def test_impossible_portals_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **change)


def test_too_many_stories_for_the_topics(bank: TextBank) -> None:
    with pytest.raises(ConfigError, match="topics"):
        simulate(replace(SMALL, communities=60), bank)


def test_real_headlines_are_clustered_and_bad_lines_named(tmp_path: Path) -> None:
    file = tmp_path / "news.jsonl"
    subjects = ("cats purr at night", "markets fell sharply", "rockets reach orbit")
    lines = [
        f'{{"headline": "{subject} {i}", "short_description": "more on how {subject}", "category": "C"}}'
        for i, subject in enumerate(subjects * 20)
    ]
    file.write_text("\n".join(lines))
    found = real_headlines(file, num_topics=3)
    assert len(found) == 60
    assert all(len(set(found.topics[i::3])) == 1 for i in range(3))
    file.write_text("\n".join([*lines, '{"headline": "x"}']))
    with pytest.raises(DataError, match=r"news\.jsonl:61"):
        real_headlines(file, num_topics=3)
    with pytest.raises(DataError, match="cannot be read"):
        real_headlines(tmp_path / "missing.jsonl")
