"""Diversity, filters, and the list of a reader of whom nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_recsys.serving.diversity import diversify
from multiway_recsys.serving.reranking import DAY, RerankingOptions, candidate_mask, time_decayed_popularity


def test_without_diversity_the_order_is_that_of_the_scores():
    scores = np.array([0.1, 0.9, 0.5, 0.9], np.float32)
    order = diversify(scores, np.eye(4, dtype=np.float32), np.zeros(4, int), 3, diversity=0)
    assert order.tolist() == [1, 3, 2]


def test_a_list_is_not_one_story_three_times():
    story, other = np.array([1, 0, 0]), np.array([0, 1, 0])
    vectors = np.array([story, story + 0.01, story - 0.01, other], np.float32)
    scores = np.array([1.0, 0.98, 0.96, 0.5], np.float32)
    assert diversify(scores, vectors, np.zeros(4, int), 2, diversity=0).tolist() == [0, 1]
    assert diversify(scores, vectors, np.zeros(4, int), 2, diversity=0.5).tolist() == [0, 3]
    # Also with little diversity two tellings of a story are enough, but nothing is withheld.
    assert diversify(scores, vectors, np.zeros(4, int), 4, diversity=0.01).tolist() == [0, 1, 3, 2]


def test_maximal_marginal_relevance_is_its_formula():
    random = np.random.default_rng(1)
    scores = random.standard_normal(30).astype(np.float32)
    vectors = random.standard_normal((30, 5)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    chosen: list[int] = []
    for _ in range(8):
        values = [
            -np.inf
            if i in chosen
            else 0.6 * relevance[i] - 0.4 * max([0.0, *(float(unit[i] @ unit[j]) for j in chosen)])
            for i in range(30)
        ]
        chosen.append(int(np.argmax(values)))
    assert diversify(scores, vectors, np.zeros(30, int), 8, diversity=0.4).tolist() == chosen


def test_a_category_has_its_cap_until_nothing_else_is_left():
    scores = np.array([0.9, 0.8, 0.7, 0.1], np.float32)
    categories = np.array([1, 1, 1, 2])
    order = diversify(scores, np.eye(4, dtype=np.float32), categories, 4, diversity=0, per_category=1)
    assert order.tolist() == [0, 3, 1, 2]


def test_equal_scores_and_zero_vectors_and_no_candidate():
    order = diversify(np.ones(4, np.float32), np.zeros((4, 3), np.float32), np.zeros(4, int), 9)
    assert order.tolist() == [0, 1, 2, 3]
    assert diversify(np.zeros(0, np.float32), np.zeros((0, 3), np.float32), np.zeros(0, int), 9).size == 0


def test_what_may_be_shown():
    now = 100 * DAY
    published = np.array([0, now - DAY, now - 9 * DAY, now + 1])
    none = np.zeros(0, int)
    assert candidate_mask(None, None, RerankingOptions(), none) is None
    allowed = candidate_mask(published, now, RerankingOptions(max_age_days=3), none)
    assert allowed.tolist() == [True, True, False, False]  # row 0: its time is not known
    allowed = candidate_mask(published, now, RerankingOptions(), np.array([1]))
    assert allowed.tolist() == [True, False, True, False]


def test_a_new_reader_gets_what_is_popular_and_fresh():
    now = 100 * DAY
    clicks = np.array([50, 50, 0, 500])
    published = np.array([now, now - 4 * DAY, now, 0])
    scores = time_decayed_popularity(clicks, published, now)
    assert scores[0] == pytest.approx(4 * scores[1])  # two half-lives older
    assert scores[2] > 0  # fresh, nobody has clicked yet
    assert np.argmax(scores) == 3
    assert np.argsort(-time_decayed_popularity(clicks, None, None))[0] == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"diversity": 1.5}, "diversity 1.5"),
        ({"per_category": 0}, "at least 1"),
        ({"max_age_days": 0.0}, "more than 0"),
    ],
)
def test_rules_that_cannot_be_followed(values, message):
    with pytest.raises(InputError, match=message):
        RerankingOptions(**values)
