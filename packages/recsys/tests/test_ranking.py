"""AUC, MRR and nDCG against formulas written out in plain loops, and against scikit-learn, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_recsys.data.tables import Behaviors, Ragged
from multiway_recsys.metrics import ranking
from multiway_recsys.metrics.ranking import auc, evaluate_ranking, mrr, ndcg, rank_rows, ranks
from multiway_recsys.metrics.slices import (
    by_cold_click,
    by_dormancy,
    by_history_length,
    last_activity,
)


def impressions(sizes: list[int], seed: int = 0, *, ctr: float = 0.3) -> Behaviors:
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    count = len(sizes)
    return Behaviors(
        impression_ids=tuple(str(10 + row) for row in range(count)),
        users=random.integers(0, 5, count).astype(np.int32),
        user_ids=tuple(f"U{user}" for user in range(5)),
        times=random.integers(0, 10**6, count),
        histories=Ragged.from_rows([random.integers(1, 9, random.integers(0, 8)) for _ in range(count)]),
        candidates=Ragged(random.integers(1, 9, offsets[-1]).astype(np.int32), offsets),
        labels=(random.random(offsets[-1]) < ctr).astype(np.int8),
    )


def plain_metrics(labels: list[int], scores: list[float]) -> tuple[float, float, float, float]:
    """The definitions of the leaderboard, candidate by candidate."""
    pairs = [
        1.0 if mine > other else 0.5 if mine == other else 0.0
        for mine, label in zip(scores, labels, strict=True)
        for other, other_label in zip(scores, labels, strict=True)
        if label == 1 and other_label == 0
    ]
    # Best first; of equal scores the later one, as reading an ascending order backwards gives.
    order = sorted(range(len(labels)), key=lambda place: (scores[place], place), reverse=True)
    found = [labels[place] for place in order]
    reciprocal = sum(label / (rank + 1) for rank, label in enumerate(found)) / sum(found)

    def dcg(sequence: list[int]) -> float:
        return sum((2**label - 1) / np.log2(rank + 2) for rank, label in enumerate(sequence))

    best = sorted(found, reverse=True)
    return (
        sum(pairs) / len(pairs), reciprocal, dcg(found[:5]) / dcg(best[:5]), dcg(found[:10]) / dcg(best[:10]),
    )  # fmt: skip


@pytest.mark.parametrize("levels", [2, 5, 10**6])
def test_all_metrics_equal_the_definitions(levels: int):
    from sklearn.metrics import ndcg_score, roc_auc_score

    random = np.random.default_rng(levels)
    behaviors = impressions(random.integers(1, 40, 60).tolist())
    scores = (random.integers(0, levels, len(behaviors.candidates.values)) / 7).astype(np.float32)
    result = evaluate_ranking(scores, behaviors)
    evaluated = 0
    for row in range(len(behaviors)):
        place = slice(*behaviors.candidates.offsets[row : row + 2])
        labels, mine = behaviors.labels[place], scores[place]
        found = [result.auc[row], result.mrr[row], result.ndcg5[row], result.ndcg10[row]]
        if labels.min() == labels.max():
            assert np.isnan(found).all()
            continue
        evaluated += 1
        expected = plain_metrics(labels.tolist(), mine.tolist())
        assert np.abs(np.subtract(found, expected)).max() <= 1e-12
        if row % 3 == 0:  # scikit-learn takes its time
            assert abs(found[0] - roc_auc_score(labels, mine)) <= 1e-12
        assert abs(auc(labels, mine) - expected[0]) <= 1e-12
        assert abs(mrr(labels, mine) - expected[1]) <= 1e-12
        assert abs(ndcg(labels, mine, 5) - expected[2]) <= 1e-12
        assert abs(ndcg(labels, mine, 10) - expected[3]) <= 1e-12
        if levels == 10**6 and len(np.unique(mine)) == len(mine):
            assert abs(found[3] - ndcg_score([labels], [mine], k=10)) <= 1e-12
    assert result.is_evaluated.sum() == evaluated > 40
    assert result.means()["mrr"] == pytest.approx(np.nanmean(result.mrr), abs=1e-15)


def test_pieces_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch):
    behaviors = impressions([3, 0, 50, 1, 2, 9, 30])
    scores = np.random.default_rng(1).normal(size=len(behaviors.candidates.values))
    whole = evaluate_ranking(scores, behaviors)
    monkeypatch.setattr(ranking, "_CANDIDATES_AT_ONCE", 7)
    pieces = evaluate_ranking(scores, behaviors)
    assert np.array_equal(whole.auc, pieces.auc, equal_nan=True)
    assert np.array_equal(whole.ndcg5, pieces.ndcg5, equal_nan=True)
    assert len(pieces) == 7


def test_ranks_are_a_permutation_and_of_equal_scores_the_later_is_first():
    assert ranks([0.5, 2.0, 0.5, -1.0]).tolist() == [3, 1, 2, 4]
    assert rank_rows(np.array([1.0, 1.0, 5.0, -np.inf, 7.0]), np.array([0, 2, 2, 5])).tolist() == [
        2,
        1,
        2,
        3,
        1,
    ]


def test_what_is_not_defined_is_nan():
    assert np.isnan(auc([1, 1], [0.1, 0.2]))
    assert np.isnan(mrr([0, 0], [0.1, 0.2]))
    assert np.isnan(ndcg([0], [0.1], 5))
    empty = evaluate_ranking(np.zeros(0), impressions([]))
    assert len(empty) == 0
    assert np.isnan(empty.means()["auc"])
    assert empty.intervals() == {}


def test_bad_scores_are_refused():
    behaviors = impressions([3, 4])
    with pytest.raises(InputError, match=r"expected one for each of the 7 candidates"):
        evaluate_ranking(np.zeros(6), behaviors)
    scores = np.zeros(7)
    scores[3] = np.nan
    with pytest.raises(InputError, match="impression 11 is NaN"):
        evaluate_ranking(scores, behaviors)


def test_paired_differences_have_narrower_intervals():
    behaviors = impressions([20] * 300, ctr=0.2)
    random = np.random.default_rng(3)
    noise = random.normal(size=len(behaviors.candidates.values))
    one = evaluate_ranking(noise + 0.5 * behaviors.labels, behaviors)
    other = evaluate_ranking(noise + 0.4 * behaviors.labels, behaviors)
    difference = one.minus(other).intervals(seed=1)["auc"]
    assert difference.mean == pytest.approx(one.means()["auc"] - other.means()["auc"], abs=1e-12)
    assert difference.low > 0
    alone = one.intervals(seed=1)["auc"]
    assert alone.high - alone.low > 3 * (difference.high - difference.low)


def test_slices_part_the_impressions():
    behaviors = impressions([6] * 200)
    scores = evaluate_ranking(np.random.default_rng(0).normal(size=1200), behaviors)
    slices = by_history_length(behaviors, (1, 3, 4))
    assert slices.labels == ("empty", "1–2", "3", "4 and more")
    assert [slices.labels[group] for group in slices.groups[:20]] == [
        "empty" if size == 0 else "1–2" if size < 3 else "3" if size == 3 else "4 and more"
        for size in behaviors.histories.lengths[:20]
    ]
    parts = [scores.take(slices.groups == group) for group in range(len(slices.labels))]
    assert sum(map(len, parts)) == 200
    assert sum(part.is_evaluated.sum() * part.means()["auc"] for part in parts) / sum(
        part.is_evaluated.sum() for part in parts
    ) == pytest.approx(scores.means()["auc"])


def test_dormancy_counts_days_since_the_reader_was_seen():
    day = 24 * 3600
    behaviors = impressions([2, 2, 2, 2, 2])
    early = impressions([2, 2, 2])
    earlier = Behaviors(
        **{**vars(early), "users": np.array([0, 1, 0], np.int32), "times": np.array([5, 0, 9]) * day}
    )
    seen = last_activity(earlier, 3)
    assert (seen[:2] == [9 * day, 0]).all()
    later = Behaviors(
        **{**vars(behaviors), "users": np.array([0, 0, 1, 1, 2], np.int32),
           "times": np.array([10.9, 8, 14.99, 15, 20]) * day},
    )  # fmt: skip
    slices = by_dormancy(later, seen)
    assert [slices.labels[group] for group in slices.groups] == [
        "under 2 days", "under 2 days", "9–14 days", "15 days and more", "never seen",
    ]  # fmt: skip


def test_cold_clicks_are_told_from_warm_ones():
    behaviors = impressions([2, 3, 2, 2])
    behaviors = Behaviors(
        **{**vars(behaviors), "labels": np.array([1, 0, 1, 1, 0, 0, 0, 0, 1], np.int8),
           "candidates": Ragged(np.array([1, 5, 1, 5, 5, 5, 1, 1, 5], np.int32), behaviors.candidates.offsets)},
    )  # fmt: skip
    slices = by_cold_click(behaviors, np.arange(9) < 3)
    assert slices.groups.tolist() == [0, 1, -1, 2]
