"""The news index: exact and approximate search agree, order is fixed, files are checked."""

from __future__ import annotations

import numpy as np
import pytest
from multiway_core.errors import CheckpointError
from multiway_recsys.serving.index import NewsIndex


def vectors(count, size=24, seed=0):
    """Clustered vectors of different lengths, as a trained news encoder gives."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((20, size))
    rows = centres[random.integers(0, 20, count)] + 0.6 * random.standard_normal((count, size))
    return (rows * random.lognormal(0, 0.3, (count, 1))).astype(np.float32), centres.astype(np.float32)


def test_the_exact_index_is_a_sort():
    news, users = vectors(500)
    rows = np.arange(1000, 1500)
    found = NewsIndex(news, rows, approximate=False).search(users[:3], 12)
    for user, (best, scores) in zip(users, found, strict=False):
        wanted = np.argsort(-(news @ user), kind="stable")[:12]
        assert best.tolist() == rows[wanted].tolist()
        np.testing.assert_allclose(scores, (news @ user)[wanted], rtol=1e-5)


def test_the_approximate_index_finds_what_the_exact_one_does():
    news, users = vectors(3000)
    exact = NewsIndex(news, approximate=False).search(users, 50)
    approximate = NewsIndex(news, approximate=True).search(users, 50)
    recall = [len(set(a[0]) & set(e[0])) / 50 for a, e in zip(approximate, exact, strict=True)]
    assert np.mean(recall) > 0.97
    # Long vectors win an inner product, not a cosine: the first place is the same.
    assert [a[0][0] for a in approximate] == [e[0][0] for e in exact]
    for rows, scores in approximate:
        assert (np.diff(scores) <= 0).all()
        assert len(set(rows)) == 50


def test_the_same_vectors_make_the_same_index():
    news, users = vectors(1500)
    first, second = (NewsIndex(news, approximate=True).search(users, 20) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one[0].tolist() == other[0].tolist()


def test_ties_are_broken_by_row_also_at_the_cut():
    news = np.ones((40, 4), np.float32)
    ((rows, _),) = NewsIndex(news, np.arange(40)[::-1]).search(np.ones((1, 4), np.float32), 5)
    assert rows.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [0, 3, 50])
def test_few_and_no_news(count):
    news = np.eye(3, 4, dtype=np.float32)
    ((rows, scores),) = NewsIndex(news, approximate=count == 3).search(np.ones((1, 4), np.float32), count)
    assert len(rows) == len(scores) == min(count, 3)
    ((rows, _),) = NewsIndex(np.zeros((0, 4), np.float32)).search(np.ones((1, 4), np.float32), 5)
    assert len(rows) == 0


def test_a_saved_index_searches_alike_and_only_over_its_vectors(tmp_path):
    news, users = vectors(1200)
    made = NewsIndex(news, approximate=True)
    made.save(tmp_path / "index.usearch")
    loaded = NewsIndex.load(tmp_path / "index.usearch", news, np.arange(len(news)))
    for one, other in zip(made.search(users, 10), loaded.search(users, 10), strict=True):
        assert one[0].tolist() == other[0].tolist()
    with pytest.raises(CheckpointError, match="expected 1199 of 25"):
        NewsIndex.load(tmp_path / "index.usearch", news[1:], np.arange(1199))
    (tmp_path / "broken").write_bytes(b"no index at all")
    with pytest.raises(CheckpointError, match="not a usearch index"):
        NewsIndex.load(tmp_path / "broken", news, np.arange(len(news)))
