"""Item-to-item weights against their formulas written out, the blend against a known one, SASRec on a cycle."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from multiway_core.errors import InputError
from multiway_recsys.collaborative import item_weights
from multiway_recsys.collaborative.blend import fit_blend
from multiway_recsys.collaborative.sasrec import fit_sasrec, sasrec_scores
from multiway_recsys.data.tables import Behaviors, Ragged

HISTORIES = Ragged.from_rows([[1, 2, 3], [2, 3], [1, 4, 0], [3, 2, 2, 4], []])
NUM_NEWS = 6


@pytest.fixture
def clicks():
    return item_weights.click_matrix(HISTORIES, NUM_NEWS)


def test_clicks_count_once_and_unknown_news_do_not(clicks) -> None:
    want = np.zeros((5, NUM_NEWS))
    for row, news in enumerate([(1, 2, 3), (2, 3), (1, 4), (2, 3, 4), ()]):
        want[row, list(news)] = 1
    np.testing.assert_array_equal(clicks.toarray(), want)


def test_item_knn(clicks) -> None:
    x = clicks.toarray()
    both, readers = x.T @ x, np.sqrt(x.sum(axis=0))
    want = both / (np.outer(readers, readers) + 2)
    np.fill_diagonal(want, 0)
    np.testing.assert_allclose(item_weights.item_knn(clicks, shrink=2).toarray(), want)


def test_rp3beta_walks_three_steps(clicks) -> None:
    x, alpha, beta = clicks.toarray(), 1.3, 0.6
    want = np.zeros((NUM_NEWS, NUM_NEWS))
    for i in range(NUM_NEWS):
        for j in range(NUM_NEWS):
            if i != j and x[:, j].sum():
                walks = sum(
                    (x[u, i] / x[:, i].sum()) ** alpha * (x[u, j] / x[u].sum()) ** alpha
                    for u in np.flatnonzero(x[:, i])
                )
                want[i, j] = walks / x[:, j].sum() ** beta
    found = item_weights.rp3beta(clicks, alpha=alpha, beta=beta)
    np.testing.assert_allclose(found.toarray(), want, atol=1e-12)


def test_ease_is_the_best_with_an_empty_diagonal(clicks) -> None:
    """Column by column: ridge regression of a news on the others."""
    x = clicks.toarray()
    found = item_weights.ease(clicks, l2=0.7).toarray()
    for j in range(NUM_NEWS):
        others = [i for i in range(NUM_NEWS) if i != j]
        a = x[:, others]
        want = np.linalg.solve(a.T @ a + 0.7 * np.eye(len(others)), a.T @ x[:, j])
        np.testing.assert_allclose(found[others, j], want, atol=1e-10)
        assert found[j, j] == 0
    with pytest.raises(InputError, match="at most 6000"):
        item_weights.ease(sp.csr_array((2, 6001)))


def test_random_walks_follow_the_edges() -> None:
    edges = sp.csr_array(np.array([[0, 0, 0, 0], [0, 0, 3, 1], [0, 0, 0, 1], [0, 0, 0, 0]], float))
    found = item_weights.random_walks(edges, steps=2, restart=0.5).toarray()
    np.testing.assert_allclose(found[1], [0, 0, 0.5 * 0.75, 0.5 * 0.25 + 0.25 * 0.75])
    assert not found[3].any()


def test_few_neighbours_are_the_largest(clicks) -> None:
    whole = item_weights.item_knn(clicks, shrink=0).toarray()
    few = item_weights.item_knn(clicks, shrink=0, neighbours=1).toarray()
    assert ((few > 0).sum(axis=1) <= 1).all()
    np.testing.assert_allclose(few.max(axis=1), whole.max(axis=1))


def test_scores_are_sums_over_the_history(clicks) -> None:
    weights = item_weights.item_knn(clicks)
    candidates = Ragged.from_rows([[4, 5], [1], [2, 3], [], [1, 2]])
    found = item_weights.history_scores(weights, HISTORIES, candidates, half_life=1)
    w = weights.toarray()
    want = [0.25 * w[1, c] + 0.5 * w[2, c] + w[3, c] for c in (4, 5)]
    want += [0.5 * w[2, 1] + w[3, 1]]
    want += [0.25 * w[1, c] + 0.5 * w[4, c] for c in (2, 3)] + [0, 0]
    np.testing.assert_allclose(found, want)


def shown(labels: np.ndarray, width: int) -> Behaviors:
    rows = len(labels) // width
    return Behaviors(
        impression_ids=tuple(map(str, range(rows))),
        users=np.zeros(rows, np.int32),
        user_ids=("u",),
        times=np.zeros(rows, np.int64),
        histories=Ragged.from_rows([[]] * rows),
        candidates=Ragged.from_rows([list(range(1, width + 1))] * rows),
        labels=labels.astype(np.int8),
    )


def test_a_blend_is_found_again() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000 * 8, 3)) * [1, 100, 1]
    utility = scores @ [1.5, -0.01, 0] + rng.gumbel(size=len(scores))
    labels = (utility.reshape(-1, 8) == utility.reshape(-1, 8).max(axis=1, keepdims=True)).ravel()
    weights = fit_blend(scores, shown(labels, 8))
    np.testing.assert_allclose(weights * [1, 100, 1], [1.5, -1, 0], atol=0.1)
    assert not fit_blend(scores[:8], shown(np.zeros(8), 8)).any()


def test_sasrec_learns_a_cycle_and_repeats_itself() -> None:
    rows = Ragged.from_rows([[(start + step) % 6 + 1 for step in range(5)] for start in range(6)] * 20)
    models = [
        fit_sasrec(rows, 7, epochs=20, batch_size=32, hidden_size=16, dropout=0.0, length=8) for _ in range(2)
    ]
    histories, everything = Ragged.from_rows([[2, 3], [5, 6], []]), Ragged.from_rows([[1, 2, 3, 4, 5, 6]] * 3)
    found, again = (sasrec_scores(model, histories, everything).reshape(3, 6) for model in models)
    np.testing.assert_array_equal(found, again)
    assert found[0].argmax() + 1 == 4
    assert found[1].argmax() + 1 == 1
    assert not found[2].any()
