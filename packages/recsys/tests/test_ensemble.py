"""The ensemble of a log's clicks: as good as its best member, and nothing leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_recsys.collaborative.ensemble import ClickEnsemble, Settings, column_names, columns
from multiway_recsys.collaborative.recommender import LogRecommender
from multiway_recsys.data.tables import Behaviors, News, Ragged
from multiway_recsys.glocim.statistics import ClickStatistics
from multiway_recsys.metrics.ranking import evaluate_ranking
from multiway_recsys.serving.reranking import RerankingOptions

NUM_NEWS, GROUPS = 41, 4
QUICK = Settings(sasrec_epochs=0)


def log(count: int, seed: int) -> Behaviors:
    """Readers stay in one of four groups of ten news; one news of each group is read far more than the others."""
    rng = np.random.default_rng(seed)
    histories, candidates, labels = [], [], []
    for _ in range(count):
        group = rng.integers(GROUPS)
        own = 1 + 10 * group + rng.permutation(10)
        histories.append(own[: rng.integers(1, 4)])
        wanted = 1 + 10 * group if rng.random() < 0.5 else own[5]
        others = rng.choice(np.setdiff1d(np.arange(1, NUM_NEWS), [wanted]), 9, replace=False)
        candidates.append(np.concatenate([[wanted], others]))
        labels.append([1] + [0] * 9)
    return Behaviors(
        tuple(map(str, range(count))),
        np.arange(count, dtype=np.int32),
        tuple(f"U{number}" for number in range(count)),
        1000 * np.arange(count, dtype=np.int64) + 10**9,
        Ragged.from_rows(histories),
        Ragged.from_rows(candidates),
        np.concatenate(labels).astype(np.int8),
    )


def news() -> News:
    one = np.zeros(NUM_NEWS, np.int32)
    ids = ("", *(f"N{number}" for number in range(1, NUM_NEWS)))
    words = ("storm harbour rescue", "striker goal cup", "minister vote bill", "probe orbit launch")
    titles = ("", *(f"{words[(number - 1) // 10]} {number}" for number in range(1, NUM_NEWS)))
    return News(ids, titles, ("",) * NUM_NEWS, one, one, Ragged.from_rows([[]] * NUM_NEWS), ("",), ("",), ())


@pytest.fixture(scope="module")
def fitted() -> ClickEnsemble:
    return ClickEnsemble.fit(log(900, 0), NUM_NEWS, Settings(sasrec_epochs=2))


def quality(scores, shown: Behaviors) -> float:
    return evaluate_ranking(np.asarray(scores, np.float32), shown).means()["ndcg5"]


def test_the_ensemble_is_as_good_as_its_best_member(fitted) -> None:
    shown = log(400, 1)
    members = fitted.members.scores(shown, fitted.counted)
    assert set(members) == {
        "item_knn", "rp3beta", "ease", "random_walks", "popularity", "popularity-live", "most-recent", "sasrec",
    }  # fmt: skip
    found = {name: quality(scores, shown) for name, scores in members.items()}
    assert quality(fitted.rank(shown), shown) > max(found.values()) - 0.02
    assert quality(fitted.rank(shown), shown) > max(found["popularity"], found["sasrec"]) + 0.05


def test_columns_are_named_by_their_member(fitted) -> None:
    scores = fitted.members.scores(log(3, 5), fitted.counted)
    names = column_names(scores)
    assert columns(scores).shape == (30, len(names))
    assert names.count("rp3beta") == names.count("random_walks") == 2
    assert "most-recent" not in names


def test_labels_of_what_is_judged_do_not_move_its_scores(fitted) -> None:
    shown = log(50, 2)
    assert shown.labels is not None
    turned = replace(shown, labels=1 - shown.labels)
    np.testing.assert_array_equal(fitted.rank(shown), fitted.rank(turned))
    # Live clicks count for later moments only: those of the last impression move nothing.
    last = shown.take(np.array([49]))
    np.testing.assert_array_equal(fitted.rank(last), fitted.plus(last).rank(last))
    later = replace(last, times=last.times + 10)
    assert not np.array_equal(fitted.rank(later), fitted.plus(last).rank(later))


def test_a_log_without_labels_is_ranked_by_rp3beta() -> None:
    bare = replace(log(100, 3), labels=None)
    made = ClickEnsemble.fit(bare, NUM_NEWS, QUICK)
    assert made.shown_F is None
    shown = log(20, 4)
    np.testing.assert_array_equal(made.rank(shown), made.members.scores(shown, made.counted)["rp3beta"])
    assert set(made.parts(np.array([3]), 10**9)) == {"rp3beta"}


def test_unknown_candidates_come_last(fitted) -> None:
    shown = log(5, 6)
    values = shown.candidates.values.copy()
    values[::10] = 0
    scores = fitted.rank(replace(shown, candidates=Ragged(values, shown.candidates.offsets)))
    assert scores[::10].max() < np.delete(scores, np.arange(0, 50, 10)).min()


def test_statistics_grow_as_if_counted_at_once() -> None:
    first, second = log(30, 7), log(20, 8)  # their times overlap
    once = ClickStatistics.build([first, second], NUM_NEWS)
    grown = ClickStatistics.build(first, NUM_NEWS).plus(second)
    rng = np.random.default_rng(0)
    asked, moments = rng.integers(0, NUM_NEWS, 300), 10**9 + rng.integers(0, 40_000, 300)
    np.testing.assert_array_equal(once.at(asked, moments)[:, :3], grown.at(asked, moments)[:, :3])


def test_clicks_reach_the_next_list_and_similar_news_share_readers() -> None:
    made = LogRecommender(news(), log(600, 0), settings=QUICK)
    first = made.recommend(["N12", "N13"], detail="explanation")
    assert all(11 <= int(item.article.id[1:]) <= 20 for item in first.recommendations[:5])
    item = first.recommendations[0]
    assert sum(item.parts.values()) == pytest.approx(item.score)
    assert item.explanation.text.startswith("Readers of “striker goal cup")
    assert item.explanation.click.id in ("N12", "N13")
    with pytest.raises(InputError, match="no reader 'new'"):
        made.history_of("new")
    assert made.click("new", ["N22", "N999", "N23"]) == ("N999",)
    assert made.history_of("new") == ["N22", "N23"]
    found = made.recommend(made.history_of("new"), user="new")
    assert all(21 <= int(item.article.id[1:]) <= 30 for item in found.recommendations[:5])
    similar = made.similar("N31", 5)
    assert all(31 <= article.row <= 40 and article.row != 31 for article, _ in similar.similar)
    with pytest.raises(InputError, match="no news 'N77'"):
        made.similar("N77")
    one = made.recommend(["N12"], rules=RerankingOptions(blocked=frozenset({item.article.id})))
    assert item.article.id not in [other.article.id for other in one.recommendations]


def test_ten_clicks_of_a_moment_make_a_news_popular() -> None:
    made = LogRecommender(news(), log(600, 0), settings=QUICK)
    before = made.ensemble.parts(np.array([12]), made.until)["popularity-live"][38]
    for number in range(10):
        made.click(f"V{number}", ["N38"])
    after = made.ensemble.parts(np.array([12]), made.until)["popularity-live"][38]
    assert after != before
